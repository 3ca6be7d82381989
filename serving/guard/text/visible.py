"""Removes what no reader sees: invisible and control characters, terminal escapes.

By class, not by list: all of Unicode's format (Cf) and control characters, tags, variation selectors, fillers and
other default-ignorables, and what Unicode will never make a character. Kept are tab and line ends, and what shapes
the text that is seen, one by one and only where it does: joiners of emoji and of scripts that join or stack, direction
marks beside letters written from right to left, the places for a line's end in scripts without spaces, Mongolian's
variants, the flags of England, Scotland and Wales.
A character that is kept always touches one of which no value is made, so it cannot hide a value from the detectors.
"""

from __future__ import annotations

import re
from functools import cache

_HIDDEN_BELOW = (
    "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufdd0-\ufdef\ufffe\uffff"
)
_BEYOND = "\U00013430-\U0010ffff"
"""Where others lie. Python looks a set of characters below U+10000 up, and goes through one beyond."""
_HIDDEN = (
    f"{_HIDDEN_BELOW}\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
)
"""Removed unless it shapes something. Not here: the Cf characters that are seen (Arabic and other number signs)."""

_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2194-\u21aa\u231a-\u23ff\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001f0ff\U0001f170-\U0001faff"
)
"""What an emoji sequence is made of; no character that folds to an ASCII letter or digit is among it."""

_FLAG = "\U0001f3f4"
_REGIONS = tuple(
    "".join(chr(0xE0000 + ord(sign)) for sign in f"{region}\x7f") for region in ("gbeng", "gbsct", "gbwls")
)
"""Of all that tags could spell behind the black flag, what Unicode recommends for interchange (UTS #51, annex B)."""

_ARABIC = (
    "\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06ef\u06fa-\u070d\u0710-\u07bf"
    "\u0860-\u088f\u0898-\u08e1\u08e3-\u08ff"
)
"""Letters and marks of Arabic and its neighbours, whose letters join; not their digits, which are read as digits."""

_RIGHT_TO_LEFT = f"\u0591-\u05f4\u060c\u061b\u061d-\u061f{_ARABIC}\u07ca-\u085f\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"

_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca"
_INDIC = "".join(
    f"{chr(0x900 + block)}-{chr(0x965 + block)}{chr(0x970 + block)}-{chr(0x97F + block)}"
    for block in range(0, 0x480, 0x80)
) + "\u0d80-\u0de5\u0df2-\u0df4"  # fmt: skip
"""From Devanagari to Sinhala, without digits."""

_UNSPACED = "\u0e01-\u0e4f\u0e81-\u0ecf\u0edc-\u0eff\u1000-\u103f\u1050-\u108f\u1780-\u17df"
"""Thai, Lao, Myanmar, Khmer, without digits."""

_MONGOLIAN = "\u1807\u1820-\u18aa"

_KEPT = {
    # UTS #51: emoji sequences
    _FLAG: f"{_FLAG}(?:{'|'.join(_REGIONS)})",
    "\ufe0e": f"(?<=[{_EMOJI}]).",
    "\ufe0f": f"(?<=[{_EMOJI}]).|(?<=[0-9#*]).(?=\u20e3)",
    # The Unicode Standard, chapters 9, 12 and 13: Arabic letters that join or not, or show their form by themselves;
    # conjuncts, half forms and chillus behind a virama, ya-phalaa and touching letters before it; Khmer's signs above
    "\u200c": f"(?<=[{_ARABIC}]).(?=[{_ARABIC}])|(?<=[{_VIRAMA}]).(?![{_HIDDEN}])|(?<=[{_INDIC}]).(?=[{_VIRAMA}])"
    "|(?<=[\u1780-\u17df]).(?=[\u17c9\u17ca])",
    "\u200d": f"(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f)).(?=[{_EMOJI}])"
    f"|(?<=[{_ARABIC}]).(?![{_HIDDEN}])|(?<![{_HIDDEN}]).(?=[{_ARABIC}])"
    f"|(?<=[{_VIRAMA}]).(?![{_HIDDEN}])|(?<=[{_INDIC}]).(?=[{_VIRAMA}])",
    # UAX #9: where punctuation between two directions belongs
    **dict.fromkeys(
        "\u200e\u200f\u061c",
        f"(?<=[{_RIGHT_TO_LEFT}]).(?![{_HIDDEN}])|(?<![{_HIDDEN}]).(?=[{_RIGHT_TO_LEFT}])"
        f"|(?<=[{_RIGHT_TO_LEFT}][.!?:;,)%\"']).(?=\\s|\\Z)"
        f"|(?<![{_HIDDEN}]).(?=[<\\n])",
    ),
    # chapters 13 and 16: Mongolian's variants; places to break a line where no spaces stand
    **dict.fromkeys("\u180b\u180c\u180d\u180e\u180f", f"(?<=[{_MONGOLIAN}]).(?![{_HIDDEN}])"),
    "\u200b": f"(?<=[{_UNSPACED}]).(?=[{_UNSPACED}])",
}
"""Where a character stays, between two that are seen: a run of them, which could spell something, does not."""

_MAX_PARAMETERS, _MAX_STRING = 48, 256
"""Longest terminal sequences that are recognised; of longer ones only the escape character is removed."""

_ESCAPE = re.compile(
    "|".join(
        (
            rf"(?:\x1b\[|\x9b)[0-?]{{0,{_MAX_PARAMETERS}}}[ -/]{{0,4}}[@-~]",  # CSI: colours, cursor
            rf"\x1b[\]PX^_][^\x07\x1b\x9c]{{0,{_MAX_STRING}}}(?:\x07|\x1b\\|\x9c)",  # OSC, DCS: titles, hyperlinks
            r"\x1b[()*+#%][0-9A-Za-z@]",
            r"\x1b[78=>cDEHMNOZ]",
        )
    )
)
_AWAITING = f"[\u061c\u180b-\u180f\u200c-\u200f\ufe0f]|(?<=[{_UNSPACED}])\u200b"
"""What stays or goes by the character behind it."""

_UNFINISHED = re.compile(
    "|".join(
        (
            rf"(?:\x1b\[|\x9b)[0-?]{{0,{_MAX_PARAMETERS}}}[ -/]{{0,4}}\Z",
            rf"\x1b[\]PX^_][^\x07\x1b\x9c]{{0,{_MAX_STRING}}}\x1b?\Z",
            r"\x1b[()*+#%]?\Z",
            f"(?:{_AWAITING})\\Z",
            f"{_FLAG}[\U000e0061-\U000e007a]{{0,5}}\\Z",
        )
    )
)
"""The end of a text on which what follows still decides."""

_MAX_UNFINISHED = _MAX_STRING + 3
_CONTEXT = 2
"""Characters before one on which it depends: an emoji and its variation selector, a letter and punctuation."""

_ASCII_HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@cache
def _candidates() -> re.Pattern[str]:
    """Where something may have to be removed. A set of characters alone is looked for ten times as fast."""
    return re.compile(f"[{_HIDDEN_BELOW}{_BEYOND}]")


@cache
def _hidden() -> re.Pattern[str]:
    return re.compile(f"[{_HIDDEN}]")


@cache
def _kept() -> dict[str, re.Pattern[str]]:
    return {sign: re.compile(pattern) for sign, pattern in _KEPT.items()}


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
        candidates, kept, hidden = _candidates(), _kept(), _hidden()
        place = start
        while (candidate := candidates.search(raw, place, end)) is not None:
            place, sign = candidate.end(), candidate[0]
            if (stays := kept.get(sign)) is not None and (match := stays.match(raw, candidate.start())) is not None:
                place = match.end()
                continue
            if sign > "\uffff" and hidden.match(sign) is None:
                continue
            if sign in "\x1b\x9b" and (match := _ESCAPE.match(raw, candidate.start())) is not None:
                place = match.end()
            pieces.append(raw[start : candidate.start()])
            start = place
            self.num_removed += 1
        end = max(start, end)
        pieces.append(raw[start:end])
        self.context, self._held = raw[max(0, end - _CONTEXT) : end], raw[end:]
        return "".join(pieces)


def _without_surrogates(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become the replacement character."""
    return _SURROGATE.sub("\ufffd", text)


HIDDEN_WORD = "HIDDEN_TEXT"

_LETTERS = "A-Za-z\u00c0-\u024f\u0370-\u052f"
_UNSEEN = (
    "\u034f\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_UNSEEN_SIGN = re.compile(f"[{_UNSEEN}]")
_WORD = re.compile(f"[{_LETTERS}]+(?>(?:[{_UNSEEN}]+[{_LETTERS}]+)*)")
_MAX_PIECE = 3
"""Letters of the longest piece of a word that counts: names that break lines have longer ones."""
_MIN_WORDS = 5
_MAX_BETWEEN = 2
"""Whole words between two that are in pieces."""


def mask_hidden(text: str) -> tuple[str, int]:
    """`text` with each run of hidden words masked, and how many runs there were.

    Hidden words have characters that no reader sees between their letters, one word after the other.
    """
    if text.isascii() or _UNSEEN_SIGN.search(text) is None:
        return text, 0
    runs = _runs(text)
    pieces: list[str] = []
    done = 0
    for start, end in runs:
        pieces += (text[done:start], f"[{HIDDEN_WORD}]")
        done = end
    return "".join(pieces) + text[done:], len(runs)


def _runs(text: str) -> list[tuple[int, int]]:
    """Where at least so many words in pieces follow one another, nearly without whole ones between."""
    runs: list[tuple[int, int]] = []
    start = end = count = between = 0
    for word in _WORD.finditer(text):
        if not _is_in_pieces(word.group()):
            between += 1
            continue
        if between > _MAX_BETWEEN or not count:
            if count >= _MIN_WORDS:
                runs.append((start, end))
            start, count = word.start(), 0
        end, count, between = word.end(), count + 1, 0
    return [*runs, (start, end)] if count >= _MIN_WORDS else runs


def _is_in_pieces(word: str) -> bool:
    pieces = _UNSEEN_SIGN.split(word)
    return len(pieces) > 1 and max(map(len, pieces)) <= _MAX_PIECE
