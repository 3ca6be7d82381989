"""Everything that an answer says, wherever it says it: what a test searches for values that may not leave."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any


def decoded_events(data: bytes) -> list[Any]:
    """The events of a stream that hold JSON."""
    events = [line[5:].strip() for line in data.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")]
    return [json.loads(event) for event in events if event and event != b"[DONE]"]


def said(answers: list[Any]) -> list[str]:
    """Each text that one or several pieces of an answer spell: strings of one path, tokens, bytes, alternatives."""
    spelled: dict[Any, list[str]] = defaultdict(list)
    for answer in answers:
        for path, text in _strings(answer, ()):
            spelled[path].append(text)
            # Tokens stand in lists whose positions begin anew in each event.
            spelled["flat", *(key for key in path if not isinstance(key, int))].append(text)
    return ["".join(texts) for texts in spelled.values()]


def _strings(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield (*path, "key of"), name
            yield from _strings(each, (*path, name))
    elif isinstance(value, list):
        if value and all(type(number) is int for number in value):
            # Ids of the tests' engines are characters; bytes are UTF-8.
            yield (*path, "ids"), "".join(chr(number) for number in value if 0 <= number < 0x110000)
            yield (*path, "utf-8"), bytes(number & 255 for number in value).decode(errors="replace")
        for position, each in enumerate(value):
            own = each.get("index", position) if isinstance(each, dict) else position
            yield from _strings(each, (*path, own if isinstance(own, int) else position))


def leaked(answers: list[Any], values: list[str]) -> list[str]:
    """Which of the values are told."""
    texts = said(answers)
    return [value for value in values if any(value in text for text in texts)]
