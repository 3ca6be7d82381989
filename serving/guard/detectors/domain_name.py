"""Names of hosts in the domains of the world: `www.example.com`."""

from __future__ import annotations

import re

from serving.guard.detector import Span
from serving.guard.detectors.top_levels import TOP_LEVELS

_NAME = re.compile(
    r"(?<![\w@.-])(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<top>[A-Za-z]{2,18}|xn--[A-Za-z0-9-]{2,59})(?![\w(@-])(?!\.\w)"
)
_RUN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_@"
_MAX_NAME = 255
"""RFC 1035."""


class DomainNames:
    """Off by default: every link and every file of configuration holds some."""

    entity = "DOMAIN_NAME"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        settled = len(text) if final else _undecided_at(text, start)
        position = start
        while (name := _NAME.search(text, position)) is not None and name.start() < settled:
            position = name.end()
            top = name["top"]
            if top.lower() in TOP_LEVELS or top.startswith("xn--"):
                spans.append(Span(name.start(), position))
        return spans, max(settled, position if spans else 0)


def _undecided_at(text: str, start: int) -> int:
    """Where the run of characters at the end begins that a name is made of."""
    least = max(start, len(text) - _MAX_NAME)
    return least + len(text[least:].rstrip(_RUN))
