"""One text channel of one choice on its way to the client."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from serving.gateway.records import Listener
from serving.gateway.streams.chunks import Channel, decode_any, encode, set_text
from serving.guard import GuardReport, TextStream
from serving.http.sse import event_data


class ChannelRelay:
    """One text channel of one choice: lines the text that the guard releases up with the events it came in."""

    def __init__(self, cleaner: TextStream, index: int, channel: Channel, listener: Listener | None = None) -> None:
        self._cleaner = cleaner
        self._listener = listener
        self._index = index
        self._channel = channel
        self._waiting: deque[tuple[bytes, str]] = deque()
        self._waiting_chars = 0
        self._clear = ""  # released by the guard, not sent yet because its event is not wholly clear
        self._newest = b""
        self.changed = False
        """Whether the guard changed anything."""

    @property
    def report(self) -> GuardReport:
        return self._cleaner.report

    @property
    def waiting(self) -> Sequence[tuple[bytes, str]]:
        """Events that are not wholly clear, and their texts."""
        return tuple(self._waiting)

    def feed(self, event: bytes, text: str, out: list[bytes]) -> None:
        """Add to `out` the events that may be sent now that `text` has come in `event`."""
        self._newest = event
        self._waiting.append((event, text))
        self._waiting_chars += len(text)
        self._take_clear(self._cleaner.feed(text))
        self._release(out)

    def feed_all(self, events: list[bytes], texts: list[str], text: str, out: list[bytes]) -> None:
        """As `feed`, of several events at once; `text` is all of theirs."""
        self._newest = events[-1]
        self._waiting.extend(zip(events, texts, strict=True))
        self._waiting_chars += len(text)
        self._take_clear(self._cleaner.feed(text))
        # All that waits is looked at: of a long wait only when as much has come.
        if len(self._waiting) <= 2 * len(events):
            self._release_unchanged(out)
        self._release(out)

    def finish(self, out: list[bytes]) -> None:
        """Add to `out` everything that is left; the channel's text is complete."""
        self._take_clear(self._cleaner.finish())
        self._release(out)
        if self._clear:
            out.append(self._with_text(self._newest, self._clear))

    def _take_clear(self, text: str) -> None:
        """All of this goes to the client, in whichever events; who listens is told as it comes."""
        self._clear += text
        if text and self._listener is not None:
            self._listener.add(text)

    def _release_unchanged(self, out: list[bytes]) -> None:
        """Where the guard has changed nothing, let all events go at once whose text is clear."""
        events, texts = zip(*self._waiting, strict=True)
        if not "".join(texts).startswith(self._clear):
            return
        ends = list(accumulate(map(len, texts)))
        count = bisect_right(ends, len(self._clear))
        if count:
            out += events[:count]
            self._waiting = deque(zip(events[count:], texts[count:], strict=True))
            self._waiting_chars -= ends[count - 1]
            self._clear = self._clear[ends[count - 1] :]

    def _release(self, out: list[bytes]) -> None:
        waiting, clear, position = self._waiting, self._clear, 0
        while waiting and position < len(clear):
            event, text = waiting[0]
            if clear.startswith(text, position):
                position += len(text)
                self._waiting_chars -= len(text)
                waiting.popleft()
                out.append(event)
            elif text.startswith(clear[position:]):
                break
            else:
                self._clear = clear[position:]
                self._rewrite(out)
                clear, position = self._clear, 0
        self._clear = clear[position:]
        if self._waiting_chars > self._cleaner.held + len(self._clear):
            self._rewrite(out)

    def _rewrite(self, out: list[bytes]) -> None:
        """The guard changed or swallowed text: the first waiting event carries what is clear instead of its own.

        What the guard still holds is, unless it spans events, the tail of the newest one; a stub of that
        event waits for it. Should the guess be wrong, the next release differs from it and comes here again.
        """
        self.changed = True
        first = self._waiting[0][0]
        newest, text = self._waiting[-1]
        clear, self._clear = self._clear, ""
        self._waiting.clear()
        self._waiting_chars = 0
        out.append(self._with_text(first, clear))
        if held := self._cleaner.held:
            tail = text[-held:]
            self._waiting.append((self._with_text(newest, tail), tail))
            self._waiting_chars = len(tail)

    def _with_text(self, event: bytes, text: str) -> bytes:
        data = decode_any(event_data(event) or b"{}")
        for choice in data.get("choices", ()):
            if choice.get("index", 0) == self._index:
                set_text(choice, self._channel, text)
        return b"data: " + encode(data)
