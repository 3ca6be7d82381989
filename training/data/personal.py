"""Personal data and secrets in texts, found and masked by the guard's detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from serving.guard.detectors import default_detectors
from serving.guard.stream import StreamCleaner
from training.errors import RecipeError


class PersonalData:
    """Masks texts, and counts what it masked."""

    def __init__(self, allow: Collection[str] = ()) -> None:
        """`allow`: kinds that stay; raises RecipeError for one that there is not."""
        known = [detector.entity for detector in default_detectors()]
        for kind in allow:
            if kind not in known:
                raise RecipeError(f"personal.allow: {kind!r} is none of {', '.join(sorted(set(known)))}")
        self._detectors = tuple(each for each in default_detectors() if each.entity not in allow)
        self.counts: Counter[str] = Counter()
        """By kind, how many values were masked."""

    def mask(self, text: str) -> str:
        """The text with `[EMAIL_ADDRESS]` and the like in place of values."""
        cleaner = StreamCleaner(self._detectors)
        masked = cleaner.whole(text)
        for (kind, action), count in cleaner.report.counts.items():
            if action == "mask":
                self.counts[kind] += count
        return masked
