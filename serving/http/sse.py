"""Server-sent events as bytes (WHATWG HTML, "Server-sent events"): cut at blank lines, never re-joined by guesswork."""

from __future__ import annotations

import re

DONE = b"data: [DONE]"
DATA = b"data:"
# An event longer than this without a blank line is no event stream; the relay gives up instead of filling memory.
MAX_EVENT_BYTES = 16 * 1024 * 1024
_COMMENT = re.compile(rb":[ A-Za-z-]{0,32}")


class EventTooLong(ValueError):
    """There were more than `MAX_EVENT_BYTES` without the end of an event."""


class EventSplitter:
    """Cuts a byte stream into events wherever the network cut it. LF, CRLF and CR line ends are read alike."""

    def __init__(self) -> None:
        self._rest = bytearray()
        """Of an event that has not ended. Grows in place: an event may come in very many pieces."""
        self._open_line_end = b""
        """A CR that may be the first half of a CRLF: the next byte tells."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events completed by `data`, each without its closing blank line, line ends as LF.

        Raises:
            EventTooLong: an event does not end.
        """
        # Not `in`, which first takes what it looks for for a number, and raises: four times the cost.
        if data.find(b"\r") >= 0 or self._open_line_end:
            data = self._normalise(data)
        rest = self._rest
        if rest:
            # What came before was looked through then: a blank line is in the new piece, or across the cut.
            if b"\n\n" not in data and not (data.startswith(b"\n") and rest.endswith(b"\n")):
                rest += data
                self._check_length()
                return []
            data = bytes(rest) + data
            rest.clear()
        events = data.split(b"\n\n")
        rest += events.pop()
        self._check_length()
        if len(events) == 1:
            event = events[0].strip(b"\n")
            return [event] if event else []
        if data.startswith(b"\n") or b"\n\n\n" in data:
            events = [event for event in (event.strip(b"\n") for event in events) if event]
        return events

    @property
    def num_pending(self) -> int:
        """Bytes of an event that has not ended."""
        return len(self._rest)

    def finish(self) -> list[bytes]:
        """An event that the end of the stream left without its blank line, if it is a whole line of data."""
        rest = bytes(self._rest.strip(b"\n"))
        self._rest.clear()
        return [rest] if rest else []

    def _check_length(self) -> None:
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event has more than {MAX_EVENT_BYTES} bytes")

    def _normalise(self, data: bytes) -> bytes:
        data = self._open_line_end + data
        tail = self._open_line_end = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(tail)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def event_data(event: bytes) -> bytes | None:
    """The data of an event, or None when it is a comment or carries another field only."""
    if event.startswith(DATA) and b"\n" not in event:
        return event[5:].lstrip(b" ")
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(DATA)]
    return b"\n".join(lines) if lines else None


def keep_alive(event: bytes) -> bytes:
    """An event without data, which keeps a connection alive: as a comment that says nothing."""
    return event if _COMMENT.fullmatch(event) is not None else b":"
