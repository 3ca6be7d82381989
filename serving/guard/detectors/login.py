"""Passwords that stand behind a user's name: `curl -u user:password`, lines of PostgreSQL's `.pgpass`.

Here the position is enough, so letters alone count too, but for words that stand for a password.
"""

from __future__ import annotations

import re

from serving.guard.detector import Span
from serving.guard.detectors.secret_words import SECRETS
from serving.guard.detectors.sieve import positions_from

_USER = r"[\w.@+%-]{1,64}"
_OPTION = r"(?:-u|--user|-a|--auth|--proxy-user|-U)[ =]?[\"']?"
_FIELD = r"[\w.*-]{1,64}:"
_PORT = r"(?:54\d\d|6432|\*):"
_CUE = re.compile(rf"\s{_OPTION}{_USER}:")
# A name with a dot or one that everybody has: four hexadecimal digits are a piece of an IPv6 address.
_HOST = re.compile(r"(?<![\w.*:-])(?:\*|localhost|[\w-]{1,63}(?:\.[\w-]{1,63}){1,4})\Z")
_LINE = re.compile(rf":{_PORT}{_FIELD}{_FIELD}")
_BEGUN_OPTION = rf"(?<=\s)(?:-{{1,2}}[A-Za-z-]{{0,10}}|{_OPTION}[\w.@+%-]{{0,64}})"
_BEGUN_LINE = rf"(?<![\w.*-]){_FIELD}(?:[*\d]{{0,4}}|{_PORT}[\w.*-]{{0,64}}(?::[\w.*-]{{0,64}})?)"
_BEGUN = re.compile(rf"(?:{_BEGUN_OPTION}|{_BEGUN_LINE})\Z", re.ASCII)
_CLIENT = re.compile(r"(?:\b|(?<=\\[nrtbf]))(?:curl|wget|https?|xh)\b[^\n]{0,64}\Z")
_MAX_CLIENT = 80
_MAX_CUE = 280
_VALUE = re.compile(
    r"(?![${<%[*]|(?i:password|passwd|pass|pwd|pw|token|secret|key|apikey|api_key)\b|x{3,}\b)[^\s\"'\\@/:]{4,64}"
)
_END = re.compile(r"[\s\"'\\@/:]")
_MAX_VALUE = 66


class LoginPasswords:
    """What stands behind the name and its colon, up to a space or a quote."""

    entity = "PASSWORD"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        for position in positions_from(SECRETS.positions(text), start - _MAX_CUE):
            cue = _cue(text, position)
            if cue is None or cue[1] < start:
                continue
            begin, value_at = cue
            read = text[value_at : value_at + _MAX_VALUE]
            if not final and len(read) < _MAX_VALUE and _END.search(read) is None:
                # From the sign before the name on, or letters of the password would pass as an ordinary word.
                return spans, max(start, begin)
            value = _VALUE.match(text, value_at)
            if value is not None:
                spans.append(Span(value_at, value.end()))
                start = value.end()
        if final:
            return spans, len(text)
        begun = _BEGUN.search(text, max(start, len(text) - _MAX_CUE))
        return spans, len(text) if begun is None else begun.start()


def _cue(text: str, position: int) -> tuple[int, int] | None:
    """Where what announces a password begins and ends."""
    if text[position] == ":":
        host, line = _HOST.search(text, max(0, position - 64), position), _LINE.match(text, position)
        return None if host is None or line is None else (host.start(), line.end())
    option = _CUE.match(text, position)
    if option is None or _CLIENT.search(text, max(0, position - _MAX_CLIENT), position) is None:
        return None
    return position, option.end()
