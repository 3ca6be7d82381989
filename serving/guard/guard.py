"""The guard: one object for all requests and answers of a gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from serving.guard.control import ControlTokens
from serving.guard.detectors import default_detectors
from serving.guard.outcome import GuardReport
from serving.guard.request import Endpoint, RequestCleaner
from serving.guard.settings import EntityActions, GuardSettings
from serving.guard.stream import StreamCleaner, is_plain


class Guard:
    """Cleans requests on their way in and answers on their way out. Holds no state of a request."""

    def __init__(self, settings: GuardSettings, control_tokens: Iterable[str] = ()) -> None:
        """`control_tokens`: those of the served models, by `control_tokens_of`; without any, every known one counts."""
        self.policy_digest = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
        self._output = _detectors(settings.output)
        self._patient = all(detector.skips_plain_words for detector in self._output)
        tokens = ControlTokens(control_tokens, settings.control_tokens)
        self._requests = RequestCleaner(settings, tokens, _detectors(settings.input))

    def clean_request(self, body: dict[str, Any], endpoint: Endpoint) -> GuardReport:
        """Clean a request's body in place.

        Raises:
            GuardRefusal: it holds something that is refused rather than cleaned.
        """
        return self._requests.clean(body, endpoint)

    def clean_text(self, text: str) -> tuple[str, GuardReport]:
        """Clean a whole text of an answer."""
        if self._patient and is_plain(text):
            return text, GuardReport()
        cleaner = self.stream()
        return cleaner.feed(text) + cleaner.finish(), cleaner.report

    def stream(self) -> StreamCleaner:
        """A cleaner for one text channel of one answer."""
        return StreamCleaner(self._output)


def _detectors(actions: EntityActions) -> tuple[Any, ...]:
    masked = actions.masked()
    return tuple(detector for detector in default_detectors() if detector.entity in masked)
