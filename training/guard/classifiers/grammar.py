"""Text of our own making: a grammar of templates, expanded by a seeded generator."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import yaml

TEMPLATES = tuple(Path(__file__).with_name(name) for name in ("templates.yaml", "harms.yaml"))

_SLOT = re.compile(r"\{([a-z_]+)(?::([a-z_]+))?\}")
_FILLED = "{it}"


@cache
def templates(whole: bool = True) -> dict[str, list[str]]:
    """The grammar's lists by name; `whole=False` leaves out every fifth line, which is then new to a model."""
    return {
        name: [str(line) for place, line in enumerate(lines) if whole or len(lines) < 8 or place % 5 != 4]
        for file in TEMPLATES
        for name, lines in yaml.safe_load(file.read_text()).items()
    }


def write(start: str, count: int, chance: random.Random, whole: bool) -> list[str]:
    """`count` different texts of the list `start`, or as many as it has; `whole` as for `templates`."""
    written: dict[str, None] = {}
    for _ in range(4 * count):
        if len(written) == count:
            break
        written.setdefault(_expand(f"{{{start}}}", templates(whole), chance).strip())
    return list(written)


def _expand(text: str, lists: dict[str, list[str]], chance: random.Random) -> str:
    """Replace slots until none is left; one name within a text may stand for different lines.

    `{frame:deed}` is a line of `frame` about a line of `deed`: what is harmful and what is not share their frames.
    """

    def line(slot: re.Match[str]) -> str:
        chosen = chance.choice(lists[slot[1]])
        return chosen.replace(_FILLED, f"{{{slot[2]}}}") if slot[2] else chosen

    while _SLOT.search(text):
        text = _SLOT.sub(line, text)
    return text


def plant(order: str, document: str, chance: random.Random) -> str:
    """A document with an order put at its beginning, its end or between two of its sentences."""
    places = [0, len(document), *(gap.end() for gap in re.finditer(r"[.!?]\s+|\n+", document))]
    place = chance.choice(places if chance.random() < 0.5 else places[:2])
    before, after = document[:place].rstrip(" "), document[place:].lstrip(" ")
    between = chance.choice([" ", "\n", "\n\n"])
    return f"{before}{between}{order}{between}{after}".strip()


def disguise(text: str, chance: random.Random) -> str:
    """The same text as an attacker might write it: capitals, hyphens, letters exchanged or spaced out."""
    way = chance.randrange(5)
    if way == 0:
        return text.upper()
    if way == 1:
        return text.translate(_LEET)
    if way == 2:
        return " ".join(word if chance.random() < 0.7 else "-".join(word) for word in text.split(" "))
    if way == 3:
        return text.replace(". ", "!!! ").replace(" ", "  ")
    words = text.split(" ")
    for place in range(len(words)):
        if len(words[place]) > 4 and chance.random() < 0.3:
            at = chance.randrange(1, len(words[place]) - 2)
            letters = list(words[place])
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
            words[place] = "".join(letters)
    return " ".join(words)


_LEET = str.maketrans("aeiosAEIOS", "4310543105")
