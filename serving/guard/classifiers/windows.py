"""Cuts a text into windows of sentences, so that a short injection in a long text is seen by itself."""

from __future__ import annotations

import re
from itertools import pairwise

_END = re.compile(r"(?<=[.!?;:])[\"')\]]*\s+|\n+|(?<=[\u3002\uff01\uff1f])|(?<=\|)\s*(?=[A-Z])")
"""After the end of a sentence or line."""

_SHORT = 24
"""Characters below which a piece is joined to the one after it: a number, a greeting, a heading."""


def sentences(text: str, longest: int) -> list[str]:
    """The sentences of a text; a longer one than `longest` is cut between words."""
    parts: list[str] = []
    carried = ""
    for piece in _END.split(text):
        carried = f"{carried} {piece}".strip() if carried else piece.strip()
        if len(carried) < _SHORT:
            continue
        while len(carried) > longest:
            cut = carried.rfind(" ", longest // 2, longest)
            cut = cut if cut > 0 else longest
            parts.append(carried[:cut])
            carried = carried[cut:].strip()
        if carried:
            parts.append(carried)
        carried = ""
    if carried:
        parts.append(carried)
    return parts


def windows(text: str, longest: int, most: int) -> list[str]:
    """Each sentence alone and with the one after it; of a long text, runs of sentences, about `most` in all.

    Nothing is left out: text that no window held would be the place to hide in.
    """
    alone = sentences(text, longest)
    if not alone:
        return [text]
    if 2 * len(alone) <= most:
        return [*alone, *(f"{first} {second}" for first, second in pairwise(alone))]
    size = -(-2 * len(alone) // most)
    return [" ".join(alone[start : start + 2 * size]) for start in range(0, len(alone), size)]


def chunks(text: str, longest: int) -> list[str]:
    """The text in pieces of whole sentences, each about `longest` characters, overlapping by half."""
    if len(text) <= longest:
        return [text]
    alone = sentences(text, longest // 2)
    pieces: list[str] = []
    start = 0
    while start < len(alone):
        size, stop = 0, start
        while stop < len(alone) and (size == 0 or size + len(alone[stop]) <= longest):
            size += len(alone[stop])
            stop += 1
        pieces.append(" ".join(alone[start:stop]))
        if stop >= len(alone):
            break
        start = max(start + 1, (start + stop) // 2)
    return pieces
