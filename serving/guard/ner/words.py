"""Splits folded text into words, and says what the model sees of each."""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

SIDE = 4
"""How many words to each side a tag depends on."""

MAX_WORD = 18
"""Longer runs are barriers, so that `SIDE` words and their gaps fit in what a detector sees before its start:
four times 18 + 1 characters and gaps of three are 88 of 96."""

_WORD = re.compile(r"[A-Za-z]+|[0-9]+|\n|[^\S\n]{4,}|[^\sA-Za-z0-9]")


class Word(NamedTuple):
    """One run of letters or digits, one sign, a line end, or a wide gap."""

    start: int
    end: int
    text: str
    """Empty for a barrier: a run too long to be read, or a wide gap. Nothing beyond one counts."""


def split(text: str, start: int = 0) -> list[Word]:
    """The words of `text[start:]`. The last may go on in what follows the text."""
    words = []
    for match in _WORD.finditer(text, start):
        word = match.group()
        barrier = len(word) > MAX_WORD or (len(word) > 1 and word.isspace())
        words.append(Word(match.start(), match.end(), "" if barrier else word))
    return words


def shape(word: str) -> str:
    """How a word looks: `Xx`, `XX`, `x`, digits by their number, signs as they are."""
    if word.isdigit():
        return f"9{min(len(word), 6)}"
    if not word.isalpha():
        return word
    if word.islower():
        return "x" if len(word) > 1 else "x1"
    if len(word) == 1:
        return "X"
    if word.isupper():
        return "XX"
    return "Xx" if word[1:].islower() else "xX"


def rows(word: str, num_rows: int) -> list[int]:
    """The rows of the model's table for a word: the word itself first, then its case, shape, beginning and end."""
    low, looks = word.lower(), shape(word)
    traits = [f"w{low}", f"c{word}", f"s{looks}", "*"]
    if word.isalpha() and len(word) > 2:
        traits += [f"l{min(len(word), 12)}{looks}"]
        traits += [f"<{low[:size]}" for size in (2, 3, 4) if len(low) > size]
        traits += [f">{low[-size:]}" for size in (2, 3, 4, 5) if len(low) > size]
    return [crc32(trait.encode(errors="surrogatepass")) % num_rows for trait in traits]


def joint_rows(around: tuple[str, str, str, str, str], num_rows: int) -> list[int]:
    """Rows for the shapes and words of five words together, the middle one being the one to be tagged."""
    before2, before, word, after, after2 = around
    looks = [shape(word) for word in around]
    traits = (
        f"a{looks[1]}|{looks[2]}|{looks[3]}",
        f"b{looks[0]}|{looks[1]}|{looks[2]}",
        f"c{looks[2]}|{looks[3]}|{looks[4]}",
        f"d{before.lower()}|{looks[2]}",
        f"e{looks[2]}|{after.lower()}",
        f"f{before2.lower()}|{before.lower()}|{looks[2]}",
        f"g{looks[2]}|{after.lower()}|{after2.lower()}",
        f"h{word.lower()}|{looks[3]}|{looks[4]}",
        f"i{word.lower()}|{looks[0]}|{looks[1]}",
    )
    return [crc32(trait.encode(errors="surrogatepass")) % num_rows for trait in traits]
