"""Answers that the gateway writes itself, as each endpoint's clients expect them: a refusal, or a revised text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from serving.gateway.context import RequestContext
from serving.gateway.streams.chunks import encode
from serving.gateway.streams.sse import DONE

FILTERED = "content_filter"
"""The finish reason of a refusal, as OpenAI's API has it."""

Json = dict[str, Any]


class Written(NamedTuple):
    """A text of ours in place of a choice's, and why it ends."""

    text: str
    finish_reason: str


def written_whole(context: RequestContext, texts: Mapping[int, Written]) -> bytes:
    """An answer in one piece that consists of these choices."""
    return encode(_WHOLE[context.endpoint](context, texts))


def written_stream(context: RequestContext, texts: Mapping[int, Written]) -> list[bytes]:
    """The same as a stream's events, without the blank lines after them."""
    return _STREAMS[context.endpoint](context, texts)


def written_choice(context: RequestContext, index: int, written: Written) -> Json:
    """One choice of a whole chat or completion."""
    choice: Json = {"index": index, "logprobs": None, "finish_reason": written.finish_reason}
    if context.endpoint == "completions":
        return {**choice, "text": written.text}
    return {**choice, "message": {"role": "assistant", "content": written.text}}


def written_events(context: RequestContext, index: int, written: Written) -> list[bytes]:
    """One choice of a streamed chat or completion: its text, then its end."""
    begin: Json = {"index": index, "logprobs": None, "finish_reason": None}
    end: Json = {**begin, "finish_reason": written.finish_reason}
    if context.endpoint == "completions":
        parts = [{**begin, "text": written.text}, {**end, "text": ""}]
    else:
        parts = [{**begin, "delta": {"role": "assistant", "content": written.text}}, {**end, "delta": {}}]
    kind = "text_completion" if context.endpoint == "completions" else "chat.completion.chunk"
    return [b"data: " + encode({**_head(context, kind), "choices": [part]}) for part in parts]


def _head(context: RequestContext, kind: str) -> Json:
    prefix = "cmpl" if context.endpoint == "completions" else "chatcmpl"
    number = context.request_id.removeprefix("req_")
    return {"id": f"{prefix}-{number}", "object": kind, "created": int(context.created_at), "model": context.model}


def _usage(context: RequestContext) -> Json:
    prompt, completion = context.prompt_tokens, context.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _whole_choices(context: RequestContext, texts: Mapping[int, Written]) -> Json:
    kind = "text_completion" if context.endpoint == "completions" else "chat.completion"
    choices = [written_choice(context, index, written) for index, written in texts.items()]
    return {**_head(context, kind), "choices": choices, "usage": _usage(context)}


def _stream_choices(context: RequestContext, texts: Mapping[int, Written]) -> list[bytes]:
    events = [event for index, written in texts.items() for event in written_events(context, index, written)]
    if context.wants_usage:
        kind = "text_completion" if context.endpoint == "completions" else "chat.completion.chunk"
        events.append(b"data: " + encode({**_head(context, kind), "choices": [], "usage": _usage(context)}))
    return [*events, DONE]


def _message(context: RequestContext, texts: Mapping[int, Written]) -> Json:
    """Anthropic's."""
    written = texts[0]
    return {
        "id": f"msg_{context.request_id.removeprefix('req_')}",
        "type": "message",
        "role": "assistant",
        "model": context.model,
        "content": [{"type": "text", "text": written.text}],
        "stop_reason": "refusal" if written.finish_reason == FILTERED else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": context.prompt_tokens, "output_tokens": context.completion_tokens},
    }


def _message_events(context: RequestContext, texts: Mapping[int, Written]) -> list[bytes]:
    message = _message(context, texts)
    usage, end = message["usage"], {"stop_reason": message["stop_reason"], "stop_sequence": None}
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 0}}
    events: list[Json] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": texts[0].text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": usage},
        {"type": "message_stop"},
    ]
    return [_named(event) for event in events]


def _response(context: RequestContext, texts: Mapping[int, Written]) -> Json:
    """OpenAI's `/v1/responses`."""
    written, number = texts[0], context.request_id.removeprefix("req_")
    filtered = written.finish_reason == FILTERED
    prompt, completion = context.prompt_tokens, context.completion_tokens
    part = {"type": "output_text", "text": written.text, "annotations": []}
    status = "incomplete" if filtered else "completed"
    item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": status, "content": [part]}
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(context.created_at),
        "model": context.model,
        "status": status,
        "incomplete_details": {"reason": FILTERED} if filtered else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": None,
        "top_p": None,
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        },
    }


def _response_events(context: RequestContext, texts: Mapping[int, Written]) -> list[bytes]:
    response = _response(context, texts)
    item = response["output"][0]
    part = item["content"][0]
    ids = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    opened = {**item, "status": "in_progress", "content": []}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {"type": "response.content_part.added", **ids, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **ids, "delta": part["text"], "logprobs": []},
        {"type": "response.output_text.done", **ids, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **ids, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{response['status']}", "response": response},
    ]
    return [_named({**event, "sequence_number": number}) for number, event in enumerate(events)]


def _named(event: Json) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + encode(event)


_WHOLE: Mapping[str, Callable[[RequestContext, Mapping[int, Written]], Json]] = {
    "chat": _whole_choices,
    "completions": _whole_choices,
    "messages": _message,
    "responses": _response,
}
_STREAMS: Mapping[str, Callable[[RequestContext, Mapping[int, Written]], list[bytes]]] = {
    "chat": _stream_choices,
    "completions": _stream_choices,
    "messages": _message_events,
    "responses": _response_events,
}
