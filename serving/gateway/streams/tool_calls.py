"""Which tool call a piece belongs to: one number for each call, whatever the engine sends as `index`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from serving.gateway.streams.chunks import Json, decode_loose
from serving.gateway.streams.texts import as_text

# Arguments of a call without an id that are kept, to see whether they are complete.
_MOST_KEPT = 65_536


class _Call:
    __slots__ = ("arguments", "is_named", "name", "number", "own_id")

    def __init__(self, number: int) -> None:
        self.number = number
        self.own_id = ""
        self.name = ""
        self.is_named = False
        """Whether the name is whole."""
        self.arguments = ""

    @property
    def is_complete(self) -> bool:
        try:
            return isinstance(decode_loose(self.arguments.encode())[0], dict)
        except (ValueError, RecursionError):
            return False


class ToolCalls:
    """The calls of one choice, numbered in the order they came.

    Engines leave `index` out, send null, or 0 for each of several calls, which differ by their ids or begin with a
    name of their own.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, list[_Call]] = {}
        self._numbers: set[int] = set()

    def is_plain(self, index: int) -> bool:
        """Whether a piece that has nothing but this index belongs to the call of that number."""
        own = self._by_index.get(index)
        return own is not None and len(own) == 1 and own[0].number == index and bool(own[0].own_id)

    def numbers(self, calls: list[Json]) -> list[int]:
        """The number of the call that each piece of an event belongs to."""
        times = Counter(_index(call) for call in calls)
        seen: Counter[int | None] = Counter()
        taken: set[int] = set()
        numbers = []
        for position, piece in enumerate(calls):
            index = _index(piece)
            alone = times[index] == 1
            call = self._find(piece, index, seen[index] if not alone else None, position if len(calls) > 1 else None)
            seen[index] += 1
            own, name = _id(piece), _name(piece)
            if call is not None and index is not None and index not in self._by_index:
                self._by_index[index] = [call]
            if call is not None and name and own not in self._by_id and self._begins_another(call, index, name, taken):
                call = None
            if call is None:
                call = self._open(index)
            if own:
                call.own_id = call.own_id or own
                self._by_id.setdefault(own, call)
            if not call.is_named:
                call.name += name
            if not call.own_id and len(call.arguments) < _MOST_KEPT:
                call.arguments += _arguments(piece)
            taken.add(call.number)
            numbers.append(call.number)
        return numbers

    def _find(self, piece: Json, index: int | None, nth: int | None, position: int | None) -> _Call | None:
        """`nth`: how many pieces of the same index came before it in its event, where there are several."""
        own = _id(piece)
        if own and own in self._by_id:
            return self._by_id[own]
        if index is not None:
            calls = self._by_index.get(index) or [call for call in self._calls if call.number == index]
            if not calls:
                return None
            call = calls[min(nth, len(calls) - 1)] if nth is not None and len(calls) > 1 else calls[-1]
            # Another id and a name under an index that is taken: another call. Some engines make an id for each piece.
            return None if own and call.own_id and _name(piece) else call
        if not self._calls or (own and _name(piece)):
            return None
        return self._calls[-1] if position is None else self._nth(position)

    def _nth(self, position: int) -> _Call | None:
        return self._calls[position] if position < len(self._calls) else None

    def _begins_another(self, call: _Call, index: int | None, name: str, taken: set[int]) -> bool:
        """Whether a piece with a name, and no id that is known, is the beginning of a call rather than more of one."""
        if call.number in taken:
            return True
        if not call.is_named:
            # Without an index only a name tells one call from the next.
            return bool(call.name) and index is None
        return name != call.name or (not call.own_id and call.is_complete)

    def named(self, number: int) -> None:
        """The name of a call has been sent: another one under its index is another call's."""
        for call in self._calls:
            if call.number == number:
                call.is_named = True

    def _open(self, index: int | None) -> _Call:
        number = index if index is not None and index not in self._numbers else max(self._numbers, default=-1) + 1
        call = _Call(number)
        self._numbers.add(number)
        self._calls.append(call)
        if index is not None:
            self._by_index.setdefault(index, []).append(call)
        return call


def _index(call: Json) -> int | None:
    index = call.get("index")
    return index if type(index) is int and 0 <= index < 2**31 else None


def _id(call: Json) -> str:
    own = call.get("id")
    return str(own) if own and isinstance(own, str | int) else ""


def _part(call: Json) -> Json:
    for name in ("function", "custom"):
        if isinstance(part := call.get(name), dict):
            return part
    return {}


def _name(call: Json) -> str:
    name: Any = _part(call).get("name")
    return name if isinstance(name, str) else ""


def _arguments(call: Json) -> str:
    part = _part(call)
    arguments = part.get("arguments") or part.get("input")
    return as_text(arguments) if arguments else ""
