"""What people write and tools print, in many languages: code, settings, changes, traces, tables, letters.

Templates of the text file beside this one, with places for numbers and names (`§sha§`), filled by chance: the same
numbers give the same text.
"""

from __future__ import annotations

import base64
import random
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

_NAMES = (
    "parse build total index node batch value queue order stock price buffer token frame shard cache route table "
    "worker label score chunk event offset stream merge split field width"
)
_WORDS = _NAMES.split()
_PLACE = re.compile(r"§(\w+)§")


def _moment(rng: random.Random) -> datetime:
    return datetime.fromtimestamp(rng.randint(1_200_000_000, 1_900_000_000), UTC)


def _lines_of_base64(rng: random.Random) -> str:
    text = base64.b64encode(rng.randbytes(rng.randint(300, 700))).decode()
    return "\n".join(text[at : at + 64] for at in range(0, len(text), 64))


def _ulid(rng: random.Random) -> str:
    return "01" + "".join(rng.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=24))


def _comma(rng: random.Random) -> str:
    """A sum as Germans and Turks write it."""
    return f"{rng.uniform(0, 10**6):,.2f}".translate(str.maketrans(",.", ".,"))


_FIELDS: dict[str, Callable[[random.Random], str]] = {
    "n1": lambda rng: str(rng.randint(0, 9)),
    "n2": lambda rng: str(rng.randint(10, 99)),
    "n3": lambda rng: str(rng.randint(100, 999)),
    "n4": lambda rng: str(rng.randint(1000, 9999)),
    "n5": lambda rng: str(rng.randint(10_000, 99_999)),
    "n6": lambda rng: str(rng.randint(10**5, 10**6 - 1)),
    "n7": lambda rng: str(rng.randint(10**6, 10**7 - 1)),
    "n8": lambda rng: str(rng.randint(10**7, 10**8 - 1)),
    "n9": lambda rng: str(rng.randint(10**8, 10**9 - 1)),
    "n10": lambda rng: str(rng.randint(10**9, 10**10 - 1)),
    "n12": lambda rng: str(rng.randint(10**11, 10**12 - 1)),
    "n13": lambda rng: str(rng.randint(10**12, 10**13 - 1)),
    "n16": lambda rng: str(rng.randint(10**15, 10**16 - 1)),
    "n19": lambda rng: str(rng.randint(10**18, 10**19 - 1)),
    "dec": lambda rng: f"{rng.uniform(-500, 500):.{rng.randint(1, 8)}f}",
    "comma": _comma,
    "hex2": lambda rng: rng.randbytes(1).hex(),
    "hex8": lambda rng: rng.randbytes(4).hex(),
    "hex16": lambda rng: rng.randbytes(8).hex(),
    "sha": lambda rng: rng.randbytes(20).hex(),
    "sha7": lambda rng: rng.randbytes(20).hex()[:7],
    "sha256": lambda rng: rng.randbytes(32).hex(),
    "sri": lambda rng: "sha512-" + base64.b64encode(rng.randbytes(64)).decode(),
    "b64": lambda rng: base64.b64encode(rng.randbytes(rng.randint(9, 60))).decode(),
    "b64lines": _lines_of_base64,
    "uuid": lambda rng: str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
    "ulid": _ulid,
    "word": lambda rng: rng.choice(_WORDS),
    "Word": lambda rng: rng.choice(_WORDS).title(),
    "WORD": lambda rng: rng.choice(_WORDS).upper(),
    "ip": lambda rng: ".".join(str(rng.randint(1, 254)) for _ in range(4)),
    "ver": lambda rng: f"{rng.randint(0, 30)}.{rng.randint(0, 40)}.{rng.randint(0, 2000)}",
    "iso": lambda rng: f"{_moment(rng):%Y-%m-%dT%H:%M:%SZ}",
    "day": lambda rng: f"{_moment(rng):%Y-%m-%d}",
    "german": lambda rng: f"{_moment(rng):%d.%m.%Y}",
    "ms": lambda rng: str(int(_moment(rng).timestamp() * 1000) + rng.randrange(1000)),
    "gitday": lambda rng: f"{_moment(rng):%a %b %d %H:%M:%S %Y} +0{rng.randint(0, 9)}00",
}


def _fill(template: str, rng: random.Random) -> str:
    return _PLACE.sub(lambda place: _FIELDS[place[1]](rng), template)


def _written(templates: tuple[str, ...]) -> Callable[[random.Random], str]:
    return lambda rng: "".join(f"{_fill(rng.choice(templates), rng)}\n" for _ in range(rng.randint(5, 20)))


def _templates() -> dict[str, tuple[str, ...]]:
    """The templates by kind: `%% kind` begins one, `%%` the next template of it."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    kinds = [part.partition("\n") for part in re.split(r"^%% ", text, flags=re.MULTILINE)[1:]]
    return {kind: tuple(lines.removesuffix("\n").split("\n%%\n")) for kind, _, lines in kinds}


WRITTEN: dict[str, Callable[[random.Random], str]] = {kind: _written(lines) for kind, lines in _templates().items()}
"""Kinds of text that are made up."""
