"""Server-sent events as bytes (WHATWG HTML, "Server-sent events"): cut at blank lines, never re-joined by guesswork."""

from __future__ import annotations

DONE = b"data: [DONE]"
DATA = b"data:"
# An event longer than this without a blank line is no event stream; the relay gives up instead of filling memory.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLong(ValueError):
    """The engine sent more than `MAX_EVENT_BYTES` without ending an event."""


class EventSplitter:
    """Cuts a byte stream into events wherever the network cut it. LF, CRLF and CR line ends are read alike."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events completed by `data`, each without its closing blank line, line ends as LF.

        Raises:
            EventTooLong: an event does not end.
        """
        data = self._rest + data if self._rest else data
        if b"\r" in data:
            data = self._normalise(data)
        events = data.split(b"\n\n")
        self._rest = events.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong(f"the engine sent an event of more than {MAX_EVENT_BYTES} bytes")
        if len(events) == 1:
            event = events[0].strip(b"\n")
            return [event] if event else []
        return [event for event in (event.strip(b"\n") for event in events) if event]

    def finish(self) -> list[bytes]:
        """An event that the end of the stream left without its blank line, if it is a whole line of data."""
        rest, self._rest = self._rest.strip(b"\r\n"), b""
        return [rest] if rest else []

    @staticmethod
    def _normalise(data: bytes) -> bytes:
        # A CR at the very end may be the first half of a CRLF: keep it until the next byte tells.
        tail = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(tail)].replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail


def event_data(event: bytes) -> bytes | None:
    """The data of an event, or None when it is a comment or carries another field only."""
    if event.startswith(DATA) and b"\n" not in event:
        return event[5:].lstrip(b" ")
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(DATA)]
    return b"\n".join(lines) if lines else None
