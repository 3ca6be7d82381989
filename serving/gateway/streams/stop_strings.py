"""Stop strings across the cut between a text that was sent and its continuation by another engine."""

from __future__ import annotations

from collections.abc import Sequence


class StopStringJoiner:
    """Lets the new text through, and ends it at a stop string that began in the old one.

    Neither engine can see such a string: the first died before its end, the second never saw its beginning. One
    that lies wholly in the new text is the second engine's own affair.

    Args:
        stops: the stop strings.
        sent: the end of the text that the client has.
        held: text that belongs behind it and was not sent, since the first engine held it back for a stop string.
        include: whether a stop string belongs to the answer (`include_stop_str_in_output`).
    """

    def __init__(self, stops: Sequence[str], sent: str, held: str, include: bool) -> None:
        self._reach = max((len(stop) for stop in stops), default=1) - 1
        self._stops = stops
        self._include = include
        before = sent + held
        self._cut = len(before)
        start = max(0, min(len(sent), len(before) - self._reach))
        self._text = before[start:]
        self._released = len(sent) - start
        self._cut -= start

    def feed(self, text: str, final: bool = False) -> tuple[str, str | None]:
        """The text that may go on, and the stop string that ended it (None: none did)."""
        self._text += text
        stopped = self._find()
        if stopped is not None:
            start, stop = stopped
            end = start + len(stop) if self._include else start
            return self._release(end), stop
        if final or len(self._text) - self._cut >= self._reach:
            return self._release(len(self._text)), None
        return "", None

    @property
    def passed(self) -> bool:
        """Whether nothing can lie across the cut any more."""
        return self._released >= len(self._text) and len(self._text) - self._cut >= self._reach

    def _find(self) -> tuple[int, str] | None:
        """The stop string across the cut that ends first."""
        across = []
        for stop in self._stops:
            start = self._text.find(stop, max(0, self._cut - len(stop) + 1))
            if 0 <= start < self._cut:
                across.append((start + len(stop), start, stop))
        if not across:
            return None
        _, start, stop = min(across)
        return start, stop

    def _release(self, end: int) -> str:
        text = self._text[self._released : max(end, self._released)]
        self._released = max(end, self._released)
        return text
