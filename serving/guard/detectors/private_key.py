"""Private keys in armour: PEM of every kind, OpenSSH, SSH2, PGP; with real line ends or JSON's `\\n`."""

from __future__ import annotations

import re

from serving.guard.detector import Span

_NAME = r"(?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?"
# A key is certain when a line end (a real one or an escape) or key material follows: a sentence may name the marker.
_BEGIN = re.compile(
    rf"-{{4,5}} ?BEGIN {_NAME} ?-{{4,5}}(?:[ \t]{{0,4}}(?:[\r\n]|\\{{1,2}}[nr])|[^A-Za-z0-9]{{0,8}}[A-Za-z0-9+/]{{16}})"
)
_BEGUN = re.compile(
    r"-{1,5} ?\Z|-{4,5} ?(?:B|BE|BEG|BEGI|BEGIN)\Z"
    r"|-{4,5} ?BEGIN [A-Z0-9 ]{0,72}(?: ?-{1,5}(?:[^A-Za-z0-9]{0,9}[A-Za-z0-9+/]{0,16})?)?\Z"
)
_END = re.compile(rf"-{{4,5}} ?END {_NAME} ?-{{4,5}}|(?=\\{{0,3}}\"\s{{0,2}}[,}}\]])")
"""The marker, or the end of the JSON string that holds a key without one."""
_MAX_MARKER = 128
"""Longer than a marker with what makes it certain."""


class PrivateKeys:
    """A block from BEGIN to END; one that does not end is masked to the end of the text or JSON string."""

    entity = "PRIVATE_KEY"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        size = len(text)
        while text.find("PRIVATE KEY", start) >= 0 and (begin := _BEGIN.search(text, start)) is not None:
            start, still_open = _rest(text, begin.end(), final)
            if still_open:
                return [*spans, Span(begin.start(), start, _rest)], start
            spans.append(Span(begin.start(), start))
        begun = None if final else _BEGUN.search(text, max(start, size - _MAX_MARKER))
        return spans, size if begun is None else begun.start()


def _rest(text: str, end: int, final: bool) -> tuple[int, bool]:
    marker = _END.search(text, end)
    if marker is not None and (final or marker.end() < len(text)):
        return marker.end(), False
    if final:
        return len(text), False
    # The marker may have begun already, or be complete but for a fifth dash.
    return max(end, marker.start() if marker is not None else len(text) - _MAX_MARKER), True
