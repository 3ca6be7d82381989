"""Events of the engine that goes on with an answer, told as events of the answer they belong to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from serving.gateway.body import encode
from serving.gateway.streams.broken import StreamBroken
from serving.gateway.streams.chunks import UNREADABLE, choices_of, decode_any, finish_reason_of, reports_error
from serving.gateway.streams.stop_strings import StopStringJoiner
from serving.http.sse import EventSplitter, event_data

# What names an answer; all its events say the same.
_NAMES = ("id", "object", "created", "model")


class Joined(ABC):
    """Takes the second engine's bytes; gives events that follow on those of the first."""

    def __init__(self, first: bytes) -> None:
        self._splitter = EventSplitter()
        event = decode_any(event_data(first) or b"{}") if first else {}
        self._named: dict[str, Any] = {name: event[name] for name in _NAMES if name in event}
        self.done = False  # nothing that follows matters
        self.complete = False

    @property
    def num_pending(self) -> int:
        """Bytes of an event that has not ended."""
        return self._splitter.num_pending

    def feed(self, data: bytes) -> bytes:
        """Raises StreamBroken, EventTooLong: the second engine failed too; what came before is in `released`."""
        out: list[bytes] = []
        for event in self._splitter.feed(data):
            payload = event_data(event)
            if payload == b"[DONE]":
                self.done = self.complete = True
            elif payload is not None and not self.done:
                out += [b"data: " + encode(joined) + b"\n\n" for joined in self._joined(self._decode(payload))]
        return b"".join(out)

    @abstractmethod
    async def settle(self) -> None:
        """Correct what was counted, once all that came was read."""

    @abstractmethod
    def _joined(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events that take the place of one of the second engine's."""

    def _decode(self, payload: bytes) -> dict[str, Any]:
        try:
            event = decode_any(payload)
        except UNREADABLE:
            raise StreamBroken("The engine sent an event that is no answer.") from None
        if not isinstance(event, dict):
            raise StreamBroken("The engine sent an event that is no answer.")
        return event


class RestartedAnswer(Joined):
    """The whole answer again, of which the client has seen no more than the role."""

    def _joined(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not self._named:  # nothing at all was sent
            yield event
            return
        event.pop("prompt_token_ids", None)
        for choice in choices_of(event):
            delta = choice.get("delta") or {}
            choice.pop("prompt_token_ids", None)
            if delta.pop("role", None) and not any(delta.values()) and not choice.get("finish_reason"):
                return
        yield {**event, **self._named}

    async def settle(self) -> None:
        """All of it is the second engine's own count."""


class ContinuedChoice(Joined):
    """The rest of one choice, from `/v1/completions`."""

    def __init__(self, first: bytes, index: int, endpoint: str) -> None:
        super().__init__(first)
        self._index = index
        self._is_chat = endpoint == "chat"
        self._stop_string_joiner: StopStringJoiner | None = None
        self._drop_behind: Callable[[str], Awaitable[None]] | None = None
        self._stop: str | None = None

    def begin(self, joiner: StopStringJoiner | None, drop_behind: Callable[[str], Awaitable[None]]) -> None:
        """The second engine is about to answer; its text is to go through `seam`.

        `drop_behind` forgets the tokens behind a stop string.
        """
        self._stop_string_joiner, self._drop_behind = joiner, drop_behind

    async def settle(self) -> None:
        """Count no token behind a stop string across the cut: an engine that sees it whole makes none."""
        if self._stop is not None and self._drop_behind is not None:
            await self._drop_behind(self._stop)

    def _joined(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if reports_error(event):
            raise StreamBroken("The engine reported an error in the middle of the answer.")
        for choice in choices_of(event):
            text, finish = choice.get("text") or "", finish_reason_of(choice) or None
            stop_reason = choice.get("stop_reason")
            if self._stop_string_joiner is not None:
                text, stop = self._stop_string_joiner.feed(text, final=finish is not None)
                if stop is not None:
                    finish, stop_reason, self.done, self._stop = "stop", stop, True, stop
                elif self._stop_string_joiner.passed:
                    self._stop_string_joiner = None
            yield {**self._named, "choices": [self._choice(text, finish, stop_reason, choice.get("token_ids"))]}

    def _choice(self, text: str, finish: str | None, stop_reason: object, ids: object) -> dict[str, Any]:
        shown: dict[str, Any] = {"delta": {"content": text}} if self._is_chat else {"text": text}
        choice = {"index": self._index, **shown, "logprobs": None, "finish_reason": finish}
        if finish is not None:
            choice["stop_reason"] = stop_reason
        return {**choice, "token_ids": ids}
