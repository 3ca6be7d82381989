"""Puts the values of a question back where an answer names their placeholders.

The last stage of an answer's way: what is restored here is looked at by no other. Models write `Person_1` or
`PERSON\\_1` too, so letters of either case count, and the backslashes that Markdown puts before an underscore.
"""

from __future__ import annotations

import json
import re

from serving.guard.outcome import GuardReport
from serving.guard.text.values import MAX_DIGITS, Vault

_CONTEXT = 2
"""Characters before a placeholder that decide whether a longer name goes on there."""
_BOUNDARY = r"(?<![A-Za-z0-9])(?<![A-Za-z0-9]_)"
_JOINT = r"\\{0,2}_"


class Restorer:
    """Restores one text that comes in pieces; held back is only what could still become a placeholder."""

    __slots__ = ("_context", "_held", "_json", "_longest", "_name", "_report", "_unfinished", "_vault")

    def __init__(self, vault: Vault, report: GuardReport, *, json: bool) -> None:
        """`json`: the text is JSON, so values go into its strings."""
        self._vault = vault
        self._report = report
        self._json = json
        self._name, self._unfinished = _patterns(vault.entities)
        self._longest = max((len(entity) + 2 * entity.count("_") for entity in vault.entities), default=0)
        self._longest += len(r"\\_") + MAX_DIGITS
        self._held = ""
        self._context = ""

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def at_rest(self) -> bool:
        return False  # any word may be a placeholder's beginning

    def feed(self, text: str) -> str:
        if not text:
            return ""
        raw = self._context + self._held + text
        start = len(self._context)
        unfinished = self._unfinished.search(raw, max(start, len(raw) - self._longest))
        return self._restore(raw, start, len(raw) if unfinished is None else unfinished.start())

    def finish(self) -> str:
        raw = self._context + self._held
        return self._restore(raw, len(self._context), len(raw))

    def _restore(self, raw: str, start: int, end: int) -> str:
        pieces: list[str] = []
        for match in self._name.finditer(raw, start, end):
            entity = match["entity"].replace("\\", "").upper()
            value = self._vault.value_of(f"{entity}_{match['number']}")
            if value is None:
                continue
            pieces += (raw[start : match.start()], json.dumps(value, ensure_ascii=False)[1:-1] if self._json else value)
            self._report.add(entity, "restore")
            start = match.end()
        pieces.append(raw[start:end])
        self._context, self._held = raw[max(0, end - _CONTEXT) : end], raw[end:]
        return "".join(pieces)


def _patterns(entities: frozenset[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A whole placeholder, and the end of a text that may become one."""
    longest_first = sorted(entities, key=len, reverse=True)
    written = "|".join(entity.replace("_", _JOINT) for entity in longest_first)
    number = rf"[0-9]{{1,{MAX_DIGITS}}}"
    name = re.compile(rf"(?i:{_BOUNDARY}(?P<entity>{written}){_JOINT}(?P<number>{number})(?![0-9]))")
    begun = "|".join(_beginnings(entity) for entity in longest_first)
    return name, re.compile(rf"(?i:{_BOUNDARY}(?:{begun})\Z)")


def _beginnings(entity: str) -> str:
    """A pattern for every beginning of a placeholder, down to its first letter."""
    pattern = rf"(?:\\{{1,2}}|{_JOINT}[0-9]{{0,{MAX_DIGITS}}})?"
    for char in reversed(entity[1:]):
        pattern = rf"(?:\\{{1,2}}|{_JOINT}{pattern})?" if char == "_" else f"(?:{char}{pattern})?"
    return entity[0] + pattern
