"""Objects with one key twice: a parser takes the last value, and a client that reads the same bytes may take the first.

What is passed on as bytes has been read by one parser, so it must not hold a value that another one would read.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_ESCAPED_COLON = b"\\u003"


def repeats_keys(data: bytes, decoded: Any = None) -> bool:
    """Whether JSON has an object with one key twice; `decoded`: the same, where it is at hand.

    Every key has a colon behind it, and a value that the parser left out takes its key along: written anew from what
    was read, the same JSON has fewer colons. Those in strings are the same in both, unless they were escaped.
    """
    if _ESCAPED_COLON not in data:
        return data.count(b":") != _encode(_decode(data) if decoded is None else decoded).count(b":")
    repeats = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeats
        repeats = repeats or len({name for name, _ in pairs}) < len(pairs)

    json.loads(data, object_pairs_hook=look)
    return repeats


class Frame(NamedTuple):
    """What stands around the text of an event that repeats no key, and how many quotation marks there are in all.

    A readable event with the same of all three repeats none either: without a quotation mark of its own, escaped or
    not, the text in it lies in the string that `start` opens and `end` closes.
    """

    start: bytes
    end: bytes
    num_quotes: int


def frame_of(data: bytes, text: str) -> Frame | None:
    """Of an event with this text; None where it cannot be told which bytes are the text."""
    written = _encode(text)
    start = data.find(written)
    if '"' in text or start < 0 or data.count(written) > 1:
        return None
    return Frame(data[: start + 1], data[start + len(written) - 1 :], data.count(b'"'))
