"""IP addresses of both versions."""

from __future__ import annotations

import ipaddress

from serving.guard.detector import Span
from serving.guard.detectors.boundary import ascii_pattern

_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}(?!\w|[.-]\w)"
_V6 = r"(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?!\w|[.:]\w)"
# A colon or a dot comes within five characters, or it is a word.
_CANDIDATE = ascii_pattern(r"[0-9A-Fa-f:](?<![\w.:-][0-9A-Fa-f:])(?:(?<=:)|[0-9A-Fa-f]{0,3}[:.])[0-9A-Fa-f:]")
_ADDRESS = ascii_pattern(rf"{_V4}|{_V6}")
_RUN = "0123456789ABCDEFabcdef:."
_MAX_UNDECIDED = 56
"""Longer than the longest address and what must follow it."""


class IpAddresses:
    """Candidates by their characters, then the library's own reading of them."""

    entity = "IP_ADDRESS"
    skips_plain_words = False
    """`dead:beef::1` begins with a word."""

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else _undecided_at(text, start)
        while (candidate := _CANDIDATE.search(text, start)) is not None and candidate.start() < settled:
            address = _ADDRESS.match(text, candidate.start())
            value = "" if address is None else address.group()
            if value[-1:] == ":" and value[-2:] != "::":
                value = value[:-1]
            if _is_address(value):
                spans.append(Span(candidate.start(), candidate.start() + len(value)))
            start = candidate.start() + max(1, len(value))
        return spans, max(settled, start if spans else 0)


def _undecided_at(text: str, start: int) -> int:
    """The beginning of the run of characters at the end of the text that an address is made of."""
    least = max(start, len(text) - _MAX_UNDECIDED)
    return least + len(text[least:].rstrip(_RUN + "-"))


def _is_address(text: str) -> bool:
    if text.count(":") == 1 or (text.startswith("::") and len(text) < 4):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
