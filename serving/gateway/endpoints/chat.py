"""`/v1/chat/completions` and `/v1/completions` (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from serving.gateway.endpoints.endpoint import Endpoint
from serving.gateway.endpoints.texts import Written, WrittenAnswer
from serving.gateway.errors import BadRequest, GatewayError
from serving.gateway.streams.chunks import Json, choice_number, choices_of, decode_any, encode
from serving.http.sse import DONE, EventSplitter, event_data


class _Choices(Endpoint, ABC):
    """What both have in common. Their streams and whole answers are read in `serving.gateway.streams`."""

    has_choices = True
    streams = True
    generates = True
    is_billed = True
    cleans_answer = True
    length_fields = ("max_completion_tokens", "max_tokens")
    id_prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def prompt_chars(self, body: Json) -> int:
        """Of messages and their text parts, or of prompts."""
        prompt, messages = body.get("prompt"), body.get("messages")
        chars = _chars(prompt) if prompt is not None else 0
        for message in messages if isinstance(messages, list) else ():
            content = message.get("content") if isinstance(message, dict) else None
            if isinstance(content, str):
                chars += len(content)
            elif isinstance(content, list):
                chars += _chars([part.get("text") for part in content if isinstance(part, dict)])
        return chars

    def write_answer(self, written: WrittenAnswer) -> Json:
        choices = [self._choice(index, own) for index, own in written.choices.items()]
        return {**self._head(written, self.whole_object), "choices": choices, "usage": _usage(written)}

    def write_stream(self, written: WrittenAnswer) -> list[bytes]:
        events = self._events(written)
        if written.wants_usage:
            head = self._head(written, self.chunk_object)
            events.append(b"data: " + encode({**head, "choices": [], "usage": _usage(written)}))
        return [*events, DONE]

    def replace_in_answer(self, body: bytes, written: WrittenAnswer) -> bytes:
        answer = decode_any(body)
        for position, choice in enumerate(answer["choices"]):
            if (own := written.choices.get(index := choice_number(choice, position))) is not None:
                answer["choices"][position] = self._choice(index, own)
        return encode(answer)

    def replace_in_stream(self, data: bytes, written: WrittenAnswer) -> list[bytes]:
        kept: list[bytes] = []
        end = 0
        for event in EventSplitter().feed(data):
            read = event_data(event)
            choices = _event_choices(read) if read else []
            if not choices or choice_number(choices[0], 0) not in written.choices:
                kept.append(event)
                end = len(kept) if choices else end
        return [*kept[:end], *self._events(written), *kept[end:], DONE]

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Clients raise it and read no further."""
        return b"data: " + error.body() + b"\n\n"

    def _choice(self, index: int, own: Written) -> Json:
        return {"index": index, "logprobs": None, "finish_reason": own.finish_reason, **self._whole_text(own.text)}

    def _events(self, written: WrittenAnswer) -> list[bytes]:
        """Of each choice its text, then its end."""
        head = self._head(written, self.chunk_object)
        events = []
        for index, own in written.choices.items():
            begin = {"index": index, "logprobs": None, "finish_reason": None, **self._first_piece(own.text)}
            end = {"index": index, "logprobs": None, "finish_reason": own.finish_reason, **self._last_piece()}
            events += [b"data: " + encode({**head, "choices": [part]}) for part in (begin, end)]
        return events

    def _head(self, written: WrittenAnswer, kind: str) -> Json:
        number = f"{self.id_prefix}-{written.number}"
        return {"id": number, "object": kind, "created": written.created, "model": written.model}

    @abstractmethod
    def _whole_text(self, text: str) -> Json: ...

    @abstractmethod
    def _first_piece(self, text: str) -> Json: ...

    @abstractmethod
    def _last_piece(self) -> Json: ...


class Chat(_Choices):
    path = "/v1/chat/completions"
    name = "chat"
    id_prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def set_messages(self, body: Json, messages: list[Json]) -> None:
        conversation = body.get("messages") or []
        if not isinstance(conversation, list):
            raise BadRequest("'messages' must be a list.", param="messages")
        body["messages"] = messages + conversation

    def _whole_text(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text}}

    def _first_piece(self, text: str) -> Json:
        return {"delta": {"role": "assistant", "content": text}}

    def _last_piece(self) -> Json:
        return {"delta": {}}


class Completions(_Choices):
    path = "/v1/completions"
    name = "completions"
    id_prefix = "cmpl"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def _whole_text(self, text: str) -> Json:
        return {"text": text}

    def _first_piece(self, text: str) -> Json:
        return {"text": text}

    def _last_piece(self) -> Json:
        return {"text": ""}


def _chars(texts: Any) -> int:
    """Of one text or several; whatever else there is has none."""
    return sum(len(text) for text in (texts if isinstance(texts, list) else [texts]) if isinstance(text, str))


def _event_choices(data: bytes) -> list[Json]:
    event = decode_any(data) if data != b"[DONE]" else None
    return choices_of(event) if isinstance(event, dict) else []


def _usage(written: WrittenAnswer) -> Json:
    prompt, completion = written.prompt_tokens, written.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


CHAT = Chat()
COMPLETIONS = Completions()
