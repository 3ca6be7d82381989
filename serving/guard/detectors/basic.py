"""Names and passwords in base64: `Authorization: Basic …` (RFC 7617), `"auth": "…"` of container clients, `_auth=`."""

from __future__ import annotations

import re
from base64 import b64decode

from serving.guard.detector import Span
from serving.guard.detectors.growing import CuedValue, Run
from serving.guard.detectors.key_shapes import KEYS
from serving.guard.detectors.sieve import matches

_IS = r"\\{0,2}[\"']?\s{0,2}[:=]\s{0,2}\\{0,2}[\"']?"
_CUE = re.compile(rf"[Bb](?:asic|ASIC)[ \t]{{1,4}}|auth{_IS}")
_MAX_CUE = 16
_MAX_READ = 128
"""Characters that are decoded: the name and the beginning of the password. The rest is swallowed."""
_VALUE = re.compile(rf"[A-Za-z0-9+/_-]{{6,{_MAX_READ}}}")
_UNDECIDED = re.compile(rf"[A-Za-z0-9+/_-]{{0,{_MAX_READ - 1}}}\Z")
_REST = Run("A-Za-z0-9+/_=-")
_NOT_PLAIN = re.compile(r"[^A-Za-z]|[A-Za-z]{16}")
"""Shorter ones of letters alone pass as words."""
_CREDENTIALS = re.compile(r"[^\x00-\x1f\x7f-\x9f:]*:[^\x00-\x1f\x7f-\x9f\ufffd]+")
_TO_STANDARD = str.maketrans("-_", "+/")


class BasicCredentials:
    """What follows such a cue, and says `name:password` when it is decoded."""

    entity = "PASSWORD"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        cues = matches(_CUE, text, KEYS.positions(text), max(0, start - _MAX_CUE))
        return _CREDENTIALS_BEHIND.scan((cue.end() for cue in cues), text, start, final)


def _is_credentials(value: str) -> bool:
    if _NOT_PLAIN.search(value) is None or len(value) % 4 == 1:
        return False
    text = b64decode(value.translate(_TO_STANDARD) + "=" * (-len(value) % 4)).decode("utf-8", "replace")
    # A letter may be cut where no more was read.
    text = text.rstrip("\ufffd") if len(value) == _MAX_READ else text
    return _CREDENTIALS.fullmatch(text) is not None


_CREDENTIALS_BEHIND = CuedValue(_VALUE, _UNDECIDED, _REST, _is_credentials)
