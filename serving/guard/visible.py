"""Removes what no reader sees: invisible and control characters, terminal escapes.

By class, not by list: all of Unicode's format (Cf) and control characters, tags, variation selectors, fillers and
other default-ignorables. Kept are tab and line ends, and joiners where they shape what is seen: between emoji, and
between letters of scripts that join or stack (Arabic, Indic and their neighbours).
"""

from __future__ import annotations

import re
from functools import cache

_HIDDEN = (
    "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Always removed. Not here: the joiners below, and the Cf characters that are seen (Arabic and other number signs)."""

_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2194-\u21aa\u231a-\u23ff\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001f0ff\U0001f170-\U0001faff"
)
"""What an emoji sequence is made of; no character that folds to an ASCII letter or digit is among it."""

_JOINING = "\u0620-\u065f\u066e-\u06ef\u06fa-\u07bf\u0860-\u088f\u0898-\u08e1\u08e3-\u08ff" + "".join(
    f"{chr(0x900 + block)}-{chr(0x965 + block)}{chr(0x970 + block)}-{chr(0x97F + block)}"
    for block in range(0, 0x480, 0x80)
)
"""Letters and marks of joining and stacking scripts; not their digits, between which a joiner could hide a number."""

_SEEN = f"[{_EMOJI}{_JOINING}]"

_MAX_PARAMETERS, _MAX_STRING = 48, 256
"""Longest terminal sequences that are recognised; of longer ones only the escape character is removed."""

_ESCAPES = "|".join(
    (
        rf"(?:\x1b\[|\x9b)[0-?]{{0,{_MAX_PARAMETERS}}}[ -/]{{0,4}}[@-~]",  # CSI: colours, cursor
        rf"\x1b[\]PX^_][^\x07\x1b\x9c]{{0,{_MAX_STRING}}}(?:\x07|\x1b\\|\x9c)",  # OSC, DCS …: titles, hyperlinks
        r"\x1b[()*+#%][0-9A-Za-z@]",
        r"\x1b[78=>cDEHMNOZ]",
    )
)
_UNFINISHED = re.compile(
    "|".join(
        (
            rf"(?:\x1b\[|\x9b)[0-?]{{0,{_MAX_PARAMETERS}}}[ -/]{{0,4}}\Z",
            rf"\x1b[\]PX^_][^\x07\x1b\x9c]{{0,{_MAX_STRING}}}\x1b?\Z",
            r"\x1b[()*+#%]?\Z",
            r"[\u200c\u200d\ufe0e\ufe0f]\Z",
        )
    )
)
"""The end of a text on which what follows still decides."""

_MAX_UNFINISHED = _MAX_STRING + 3
_CONTEXT = 2
"""Characters before a joiner on which it depends: an emoji and its variation selector."""

_ASCII_HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@cache
def _removed() -> re.Pattern[str]:
    joiner = "[\u200c\u200d]"
    return re.compile(
        f"{_ESCAPES}|[{_HIDDEN}]"
        f"|{joiner}(?!{_SEEN})|(?<!{_SEEN})(?<!{_SEEN}\ufe0f){joiner}"
        f"|(?<![{_EMOJI}0-9#*])[\ufe0e\ufe0f]|(?<=[0-9#*])\ufe0e|(?<=[0-9#*])\ufe0f(?!\u20e3)"
    )


class VisibleText:
    """Lets the visible part of a stream through. Holds at most 259 characters back: an escape that is not finished."""

    __slots__ = ("_held", "context", "num_removed")

    def __init__(self) -> None:
        self.context = ""
        """The characters that came last, or as many as a joiner depends on. Who passes ASCII text by sets it."""
        self._held = ""
        self.num_removed = 0
        """Characters and sequences removed so far."""

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, text: str) -> str:
        """The visible text that is certain now."""
        if not self._held and text.isascii() and _ASCII_HIDDEN.search(text) is None:
            self.context = (self.context + text)[-_CONTEXT:]
            return text
        raw = self.context + self._held + _without_surrogates(text)
        start = len(self.context)
        unfinished = _UNFINISHED.search(raw, max(start, len(raw) - _MAX_UNFINISHED))
        return self._take(raw, start, len(raw) if unfinished is None else unfinished.start())

    def finish(self) -> str:
        """What was held back; nothing follows."""
        raw = self.context + self._held
        return self._take(raw, len(self.context), len(raw))

    def _take(self, raw: str, start: int, end: int) -> str:
        pieces = []
        for match in _removed().finditer(raw, start):
            if match.start() >= end:
                break
            pieces.append(raw[start : match.start()])
            start = match.end()
            self.num_removed += 1
        end = max(start, end)
        pieces.append(raw[start:end])
        self.context, self._held = raw[max(0, end - _CONTEXT) : end], raw[end:]
        return "".join(pieces)


def _without_surrogates(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become the replacement character."""
    return _SURROGATE.sub("\ufffd", text)
