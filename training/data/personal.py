"""Personal data and secrets in texts, found and masked by the guard's detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from serving.guard.detectors import default_detectors
from serving.guard.settings import EntityActions
from serving.guard.stream import StreamCleaner
from training.errors import RecipeError


def usual_kinds() -> frozenset[str]:
    """What a gateway masks in questions unless it is told otherwise."""
    return EntityActions().masked()


class PersonalData:
    """Masks texts, and counts what it masked."""

    def __init__(self, kinds: Collection[str] | None = None) -> None:
        """`kinds`: which; all that there are where it is None. Raises RecipeError for one that there is not."""
        known = {detector.entity for detector in default_detectors()}
        for kind in kinds or ():
            if kind not in known:
                raise RecipeError(f"personal.kinds: {kind!r} is not one of {', '.join(sorted(known))}")
        self._detectors = tuple(
            detector for detector in default_detectors() if kinds is None or detector.entity in kinds
        )
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
