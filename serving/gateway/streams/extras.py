"""Texts of an answer that the gateway has no name for: each is read as one text over all events that bring it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from serving.gateway.streams.texts import Text, stream_as
from serving.guard import Answers, GuardReport, TextStream


class ExtraTexts:
    """Holds the events of one choice that bring such texts until the guard has released all of them, in their order.

    Args:
        write: an event's bytes, of its decoded data.
    """

    def __init__(self, guard: Answers, reports: list[GuardReport], write: Callable[[Any], bytes]) -> None:
        self._guard = guard
        self._reports = reports
        self._write = write
        self._texts: dict[tuple[str | int, ...], _ExtraText] = {}
        self._events: deque[_Event] = deque()
        self.changed = False
        """Whether the guard changed any of the texts; certain once they are settled."""

    def feed(self, data: Any, texts: list[Text], out: list[bytes]) -> None:
        """An event with these texts has come; adds to `out` what may go now."""
        event = _Event(data, len(texts))
        self._events.append(event)
        for source in texts:
            text = self._texts.get(source.path)
            if text is None:
                cleaner = stream_as(self._guard, source.kind)
                text = self._texts[source.path] = _ExtraText(cleaner)
                self._reports.append(cleaner.report)
            text.feed(event, source)
        self._release(out)

    def settle(self) -> None:
        """Nothing follows: the texts of all events are certain."""
        for text in self._texts.values():
            text.finish()
            self.changed = self.changed or text.changed
        self._texts = {}

    def finish(self, out: list[bytes]) -> None:
        """As `settle`; adds to `out` the events that are left."""
        self.settle()
        self._release(out)

    def _release(self, out: list[bytes]) -> None:
        while self._events and not self._events[0].num_open:
            out.append(self._write(self._events.popleft().data))


class _Event:
    __slots__ = ("data", "num_open")

    def __init__(self, data: Any, num_open: int) -> None:
        self.data = data
        self.num_open = num_open


class _ExtraText:
    """One text: what is released of it goes to the fields that it came from, one after the other."""

    __slots__ = ("_cleaner", "_clear", "_num_waiting", "_waiting", "changed")

    def __init__(self, cleaner: TextStream) -> None:
        self._cleaner = cleaner
        self._waiting: deque[tuple[_Event, Text]] = deque()
        self._num_waiting = 0
        self._clear = ""
        self.changed = False

    def feed(self, event: _Event, source: Text) -> None:
        self._waiting.append((event, source))
        self._num_waiting += len(source.value)
        self._clear += self._cleaner.feed(source.value)
        self._settle()

    def finish(self) -> None:
        self._clear += self._cleaner.finish()
        self._settle()
        self.changed = self.changed or bool(self._waiting)
        while self._waiting:
            self._write_next(self._clear)

    def _settle(self) -> None:
        waiting = self._waiting
        while waiting and not self.changed and self._clear.startswith(waiting[0][1].value):
            self._write_next(waiting[0][1].value)
        if waiting and not waiting[0][1].value.startswith(self._clear):
            self.changed = True
        if self._num_waiting > self._cleaner.held + len(self._clear):
            self.changed = True
        # Once a text is another one, what is released goes to the first field that still waits.
        while self.changed and len(waiting) > 1:
            self._write_next(self._clear)

    def _write_next(self, text: str) -> None:
        event, source = self._waiting.popleft()
        self._num_waiting -= len(source.value)
        self._clear = self._clear[len(text) :]
        source.holder[source.key] = text
        event.num_open -= 1
