"""What the detectors that are on by default make of a text, whole and in pieces."""

from __future__ import annotations

import re

from serving.guard import GuardSettings, StreamCleaner
from serving.guard.detectors import default_detectors
from tests.support.cuttings import run

_ON = GuardSettings().output.acting()
_DETECTORS = tuple(detector for detector in default_detectors() if detector.entity in _ON)
_STREAMED = 300


def cleaned(text: str) -> str:
    """The cleaned text; AssertionError where a stream of it is cleaned otherwise."""
    whole = StreamCleaner(_DETECTORS).whole(text)
    for places in (range(len(text)), range(0, len(text), 3)) if len(text) < _STREAMED else ():
        assert run(StreamCleaner(_DETECTORS), text, places) == whole
    return whole


def marked(text: str, entity: str) -> tuple[str, str]:
    """A text without the marks round its values (`«…»`), and with masks in their place."""
    return text.replace("«", "").replace("»", ""), re.sub("«[^»]*»", f"[{entity}]", text)
