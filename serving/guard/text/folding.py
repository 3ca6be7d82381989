"""Folds characters that read as ASCII to ASCII, one for one, for matching only.

What is sent on keeps the writer's characters: a fold has the same length as its text, so a match in the fold is
a match at the same place of the text. Detectors therefore see plain ASCII wherever a value could stand.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_LETTERS = (range(0xAA, 0x250), range(0x300, 0x530), range(0x1E00, 0x2000))
"""Letters of Latin, Greek and Cyrillic with their combining marks: they can stand in an address."""

_COMPATIBLE = (
    range(0xA0, 0x100),
    range(0x2000, 0x2200),
    range(0x2460, 0x2500),
    range(0x3000, 0x3001),
    range(0xFE50, 0xFE70),
    range(0xFF00, 0xFF61),
    range(0x1D400, 0x1D800),
    range(0x1F100, 0x1F150),
)
"""Blocks in which NFKC maps to single ASCII characters: full width, mathematical, superscript, circled …"""

_WIDENED = (
    range(0x2000, 0x2E00),
    range(0x3200, 0x3400),
    range(0xFB00, 0xFB07),
    range(0xFE10, 0xFE70),
    range(0x1F100, 0x1F200),
)
"""Blocks with characters that NFKC makes several ASCII ones."""

_LOOKALIKES = {
    "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\u30fc\ufe58": "-",
    "\u2581\ufe4d\ufe4e\ufe4f": "_",
    "\u2502\u2503\u2223\u01c0\u2758\u2759\u275a\u23d0\uffe8": "|",
    "\u2039\u2329\u27e8\u3008\u02c2\u276e": "<",
    "\u203a\u232a\u27e9\u3009\u02c3\u276f": ">",
}
"""Structure that NFKC leaves alone: dashes, and the bars and brackets of control tokens (DeepSeek writes ▁ and ｜)."""

_DIGITS = (
    range(0x660, 0x66A),
    range(0x6F0, 0x6FA),
    *(range(0x966 + block, 0x970 + block) for block in range(0, 0x400, 0x80)),
)
"""Decimal digits of Arabic, Persian and the Indic scripts."""


def fold(text: str) -> str:
    """`text` with everything that reads as ASCII made so; as long as `text`."""
    return text if text.isascii() else _folded(text, _table())


def fold_wide(text: str) -> str:
    """Like `fold`, but characters that NFKC makes several ASCII ones (the ligature fi, units) are widened."""
    return text if text.isascii() else _folded(text, _wide_table())


def origins(text: str) -> list[int]:
    """For each character of `fold_wide(text)` the place in `text` that it came from."""
    table = _wide_table()
    return [place for place, char in enumerate(text) for _ in table.get(ord(char), char)]


def _folded(text: str, table: dict[int, str]) -> str:
    """`text.translate(table)`, which looks every character up: of prose a few in a hundred are worth it."""
    return _BEYOND_ASCII.sub(lambda match: match[0].translate(table), text)


_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+(?>(?:[\x00-@]{1,2}[^\x00-\x7f]+)*)")
"""With what stands between words, so that text in another writing is one piece."""


@cache
def _table() -> dict[int, str]:
    table: dict[int, str] = {}
    for block in _LETTERS:
        table |= {code: _base_letter(chr(code)) for code in block if unicodedata.category(chr(code))[0] in "LM"}
    for block in _COMPATIBLE:
        for code in block:
            plain = unicodedata.normalize("NFKC", chr(code))
            if len(plain) == 1 and plain.isascii():
                table[code] = plain
    for block in _DIGITS:
        for code in block:
            digit = unicodedata.decimal(chr(code), None)
            if digit is not None:
                table[code] = str(digit)
    for lookalikes, plain in _LOOKALIKES.items():
        table |= {ord(char): plain for char in lookalikes}
    return table


@cache
def _wide_table() -> dict[int, str]:
    table = dict(_table())
    for block in _WIDENED:
        for code in block:
            plain = unicodedata.normalize("NFKC", chr(code))
            if len(plain) > 1 and plain.isascii():
                table[code] = plain
    return table


_CYRILLIC = str.maketrans("\u043f\u0430\u0440\u043e\u043b\u041f\u0410\u0420\u041e\u041b", "parolPAROL")
"""Letters that the word for a password is made of: with nothing but `x` it would be any word."""


def _base_letter(char: str) -> str:
    """The ASCII letter under the marks of a Latin one; `x` stands for nearly every other letter and mark."""
    char = char.translate(_CYRILLIC)
    base = unicodedata.normalize("NFKD", char)[0]
    return base if base.isascii() and base.isalpha() else "x"
