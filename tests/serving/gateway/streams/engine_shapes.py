"""Streams and whole answers in the shapes of engines other than vLLM, written after their documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]

HEAD: Json = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
USAGE: Json = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
ASSISTANT: Json = {"role": "assistant", "content": ""}


def sse(*events: Any, done: bool = True, end: str = "\n\n", prefix: str = "data: ", spaces: bool = True) -> bytes:
    """Events as they go over the wire; a text is one as it stands."""
    separators = (", ", ": ") if spaces else (",", ":")
    lines = [event if isinstance(event, str) else prefix + json.dumps(event, separators=separators) for event in events]
    return "".join(line + end for line in [*lines, *([prefix + "[DONE]"] if done else [])]).encode()


def event(delta: Any, finish: str | None = None, head: Json | None = None, /, **choice: Any) -> Json:
    """One choice's piece, with the same fields around it."""
    piece = {"index": 0, "delta": delta, "finish_reason": finish, **choice}
    return {**HEAD, **(head or {}), "choices": [piece]}


def _sglang(pieces: Sequence[str]) -> bytes:
    empty = {"role": None, "content": None, "reasoning_content": None, "tool_calls": None}
    around = {"logprobs": None, "matched_stop": None}
    deltas = [ASSISTANT, *({"content": piece} for piece in pieces)]
    events = [event({**empty, **delta}, None, {"usage": None}, **around) for delta in deltas]
    end = event(empty, "stop", {"usage": None}, logprobs=None, matched_stop="</s>")
    usage = {**USAGE, "prompt_tokens_details": None, "reasoning_tokens": 0}
    return sse(*events, end, {**HEAD, "choices": [], "usage": usage})


def _llama_cpp(pieces: Sequence[str]) -> bytes:
    head = {"system_fingerprint": "b6000-abcdef12"}
    timings = {"cache_n": 0, "prompt_n": 5, "prompt_ms": 1.5, "predicted_n": 7, "predicted_per_second": 100.25}
    events = [event({"content": piece}, None, head) for piece in pieces]
    usage = {**HEAD, **head, "choices": [], "usage": USAGE, "timings": timings}
    first = event({"role": "assistant", "content": None}, None, head)
    return sse(first, *events, event({}, "stop", head), usage, spaces=False)


def _ollama(pieces: Sequence[str]) -> bytes:
    head = {"system_fingerprint": "fp_ollama"}
    events = [event({"role": "assistant", "content": piece}, None, head) for piece in pieces]
    return sse(*events, event(ASSISTANT, "stop", head), spaces=False)


def _tgi(pieces: Sequence[str]) -> bytes:
    """No space behind `data:`, and no `[DONE]`."""
    head = {"system_fingerprint": "3.0.0-sha", "usage": None}
    events = [event({"role": "assistant", "content": piece}, None, head, logprobs=None) for piece in pieces]
    return sse(*events, event(ASSISTANT, "stop", head, logprobs=None), prefix="data:", done=False)


def _mistral(pieces: Sequence[str]) -> bytes:
    """Content as a list of parts, a random `p` against guesses by length, the usage beside the finish reason."""
    events = [event({"content": [{"type": "text", "text": piece}]}, None, {"p": "abcdefgh"}) for piece in pieces]
    return sse(event(ASSISTANT), *events, event({"content": ""}, "stop", {"usage": USAGE}))


def _gemini(pieces: Sequence[str]) -> bytes:
    """The role and the usage in every event, the finish reason beside the last text, no index."""
    events = []
    for position, piece in enumerate(pieces, 1):
        usage = {"completion_tokens": position, "prompt_tokens": 5, "total_tokens": 5 + position}
        choice = {"delta": {"content": piece, "role": "assistant"}, "finish_reason": ""}
        events.append({"choices": [choice], "created": 1, "id": "g1", "model": "scripted", "usage": usage})
    events[-1]["choices"][0]["finish_reason"] = "stop"
    return sse(*events, spaces=False, end="\r\n\r\n")


def _odd(pieces: Sequence[str]) -> bytes:
    """Keep-alives, comments, events without choices, numbers for names, an empty finish reason."""
    head = {"id": 17, "created": "now", "usage": None}
    nothing = ["data:", ": ping", "event: ping\nid: 3\nretry: 100", "data: null"]
    between = [*nothing, event(None, "", head), {"choices": None}, event({}, "", head)]
    events = [one for piece in pieces for one in (*between, event({"content": piece}, "", head, index=None))]
    usage = {"choices": None, "usage": {"prompt_tokens": "5", "completion_tokens": 7.0}}
    return sse(*events, usage, event({}, "stop", head))


def _halves(pieces: Sequence[str]) -> bytes:
    """Each half of a character beyond the first 65,536 in an event of its own."""
    units = "".join(pieces).encode("utf-16-be")
    halves = [chr(int.from_bytes(units[place : place + 2])) for place in range(0, len(units), 2)]
    return sse(*(event({"content": half}) for half in halves), event({}, "stop"))


STREAMS: dict[str, Callable[[Sequence[str]], bytes]] = {
    "sglang": _sglang,
    "llama.cpp": _llama_cpp,
    "ollama": _ollama,
    "tgi": _tgi,
    "mistral": _mistral,
    "gemini": _gemini,
    "odd": _odd,
    "halves": _halves,
}
"""By engine: the stream of a text that comes in pieces."""


def _calls(*lists: list[Json]) -> bytes:
    events = [event({"role": "assistant", "content": None, "tool_calls": pieces}) for pieces in lists]
    return sse(*events, event({}, "tool_calls"))


def _call(name: str | None, arguments: Any, **more: Any) -> Json:
    return {"function": {**({"name": name} if name else {}), "arguments": arguments}, **more}


def _pieces(arguments: Json, **more: Any) -> list[list[Json]]:
    text = json.dumps(arguments)
    return [[_call(None, text[start : start + 7], **more)] for start in range(0, len(text), 7)]


def _openai(a: Json, b: Json) -> bytes:
    first, second = _call("first", "", index=0, id="a"), _call("second", "", index=1, id="b")
    return _calls([first], *_pieces(a, index=0), [second], *_pieces(b, index=1))


def _one_index(a: Json, b: Json) -> list[Json]:
    return [_call("first", json.dumps(a), index=0, id="a"), _call("second", json.dumps(b), index=0, id="b")]


def _interleaved(a: Json, b: Json) -> bytes:
    """One index, told apart by their ids only."""
    heads = [_call("first", "", index=0, id="a"), _call("second", "", index=0, id="b")]
    own, other = json.dumps(a), json.dumps(b)
    parts = [[_call(None, own[i : i + 9], index=0, id="a")] for i in range(0, len(own), 9)]
    others = [[_call(None, other[i : i + 9], index=0, id="b")] for i in range(0, len(other), 9)]
    mixed = [part for pair in zip(parts, others, strict=False) for part in pair]
    size = min(len(parts), len(others))
    return _calls(heads, *mixed, *parts[size:], *others[size:])


def _null_index(a: Json, b: Json) -> bytes:
    first, second = (
        _call("first", json.dumps(a), index=None, id="a"),
        _call("second", json.dumps(b), index=None, id="b"),
    )
    return _calls([first, second])


def _name_in_pieces(a: Json, b: Json) -> bytes:
    first = [[_call("fi", "", index=0, id="a")], [_call("rst", "", index=0)], [_call(None, json.dumps(a), index=0)]]
    second = [[_call("sec", "", index=1, id="b")], [_call("ond", "", index=1)], [_call(None, json.dumps(b), index=1)]]
    return _calls(*first, *second)


def _id_with_each(a: Json, b: Json) -> bytes:
    first, second = _call("first", "", index=0, id="a"), _call("second", "", index=1, id="b")
    return _calls([first], *_pieces(a, index=0, id="a"), [second], *_pieces(b, index=1, id="b"))


CALLS: dict[str, Callable[[Json, Json], bytes]] = {
    "openai": _openai,
    "one index": lambda a, b: _calls(*([call] for call in _one_index(a, b))),
    "one index, together": lambda a, b: _calls(_one_index(a, b)),
    "one index, interleaved": _interleaved,
    "index null": _null_index,
    "no index, no id": lambda a, b: _calls([_call("first", json.dumps(a))], [_call("second", json.dumps(b))]),
    "objects": lambda a, b: _calls([_call("first", a, index=0, id="a"), _call("second", b, index=1, id="b")]),
    "name in pieces": _name_in_pieces,
    "id with each piece": _id_with_each,
}
"""By what is odd about them: two parallel calls, `first` and `second`, with these arguments."""


def _whole(message: Json, **more: Any) -> Json:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


def _parts(text: str) -> Json:
    return _whole({"content": [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]})


def _dumped(text: str, **more: Any) -> str:
    return json.dumps(_whole({"role": "assistant", "content": text}, **more))


BAD_USAGE = {"prompt_tokens": "many", "completion_tokens": -3.5}
WHOLE: dict[str, Callable[[str], str]] = {
    "plain": _dumped,
    "parts": lambda text: json.dumps(_parts(text)),
    "no role": lambda text: json.dumps(_whole({"content": text})),
    "usage null": lambda text: _dumped(text, usage=None),
    "usage of words": lambda text: _dumped(text, usage=BAD_USAGE),
    "usage a list": lambda text: _dumped(text, usage=[1]),
    "numbers for names": lambda text: _dumped(text, id=5, model=None, created="now"),
    "finish empty": lambda text: _dumped(text).replace('"stop"', '""'),
    "index a text": lambda text: _dumped(text).replace('"index": 0', '"index": "0"'),
    "not a number": lambda text: _dumped(text, score=float("nan")),
    "byte order mark": lambda text: "\ufeff" + _dumped(text),
    "line ends": lambda text: "\r\n" + _dumped(text).replace('", ', '",\r\n'),
    "half a character": lambda text: _dumped(text + "\ud83d"),
}
"""By what is odd about it: a whole answer with a text, as JSON."""
