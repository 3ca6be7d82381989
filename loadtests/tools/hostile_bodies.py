"""Bodies that are made to cost: for each endpoint the shapes that cleaning could take quadratic time over.

Each generator takes a size of about that many characters and gives a request's body, or a text of an answer. They
are what `tests/serving/guard/test_linear.py` holds to linear time and `loadtests/benchmarks/silence.py` sends to a
gateway.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

Body = dict[str, Any]


class Hostile(NamedTuple):
    """A body of one endpoint that grows with `size`."""

    endpoint: str
    body: Callable[[int], Body]


def _fill(piece: str, size: int) -> str:
    return piece * max(1, size // len(piece))


_VALUE = "jane.doe@example.org "
_PIECES: Mapping[str, str] = {
    "letters": "a",
    "capitals": "A",
    "digits": "1",
    "digit rows": "1 ",
    "card rows": "4111 1111 1111 1111 ",
    "even digits": "12 34 56 78 90 12 34 ",
    "phones": "+49 30 901820 ",
    "spaces": " ",
    "lines": "\n",
    "nulls": "\0",
    "dots": ".",
    "dashes": "-",
    "underscores": "_",
    "slashes": "/",
    "colons": ":",
    "equals": "=",
    "ats": "@",
    "at signs in words": "a@",
    "addresses": _VALUE,
    "addresses, glued": "a@b.co,",
    "long domain": "a@" + "b." * 30,
    "braces": "{",
    "brackets": "[",
    "open tags": "<",
    "open tokens": "<|",
    "control tokens": "<|im_start|>",
    "nested tokens": "<|im_<|im_<|im_start|>start|>start|>",
    "open links": "![a](",
    "ampersands": "&",
    "entities": "&amp;",
    "entities, nested": "&amp;amp;",
    "entities and percents": "&amp;%41\n",
    "entities, not ASCII": "&amp;%41\n\u0915",
    "entity words": "a&lt;b ",
    "percents": "%41",
    "percents, nested": "%2541 ",
    "percents in words": "a%20b\u0915 ",
    "hexadecimal": "6a616e652e646f65 ",
    "hexadecimal, unreadable": "ffffffffffffffff ",
    "base64": b64encode(b"Just some words to read here").decode() + " ",
    "base64, nested": b64encode(b64encode(b"Just some words to read here")).decode() + " ",
    "base64, unreadable": "zzzzzzzzzzzz ",
    "base64, not ASCII": b64encode(b"Just some words to read here").decode() + " \u0915 ",
    "base64 in entities": "&#65;" + b64encode(b"Just some words to read here").decode() + "\n",
    "escapes": "\\u0061",
    "backslashes": "\\",
    "quotes": '"',
    "terminal": "\x1b[",
    "terminal strings": "\x1b]",
    "joiners": "\u200d",
    "emoji": "\U0001f600\u200d",
    "zero width": "a\u200b",
    "hidden words": "h\u200be\u200bl\u200bl\u200bo ",
    "flags": "\U0001f3f4\U000e0067",
    "Devanagari": "\u0915 ",
    "Arabic": "\u0628\u200c",
    "Cyrillic": "\u043f\u0440\u0438\u0432\u0435\u0442 ",
    "full width": "\uff41\uff20",
    "ligatures": "\ufb01",
    "ligatures and tokens": "\ufb01<|im_start|>",
    "mathematical": "\U0001d41a",
    "passwords": "password: hunter2xyz ",
    "cue words": "password ",
    "cue and colon": "token: ",
    "key cues": "api_key=",
    "basic": "Basic YWxhZGRpbjpvcGVu ",
    "basic cue": "basic ",
    "cards, announced": "credit card number ",
    "social numbers": "SSN ",
    "passports": "passport no. ",
    "phone cue": "phone ",
    "born": "born on ",
    "dates": "born 4 May 1971 ",
    "IBANs": "DE89 3704 0044 0532 0130 00 ",
    "IBAN starts": "GB29 ",
    "IP addresses": "10.1.2.3 ",
    "IPv6": "2001:db8::1 ",
    "IPv6 colons": "1:",
    "URLs": "https://a:b@example.org/ ",
    "URL starts": "https://",
    "connection strings": "postgres://u:p@h/d ",
    "private keys": "-----BEGIN PRIVATE KEY-----\n",
    "JWTs": "eyJhbGciOiJIUzI1NiJ9.",
    "API keys": "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD ",
    "names": "Jane Doe met John Roe. ",
    "placeholders": "EMAIL_ADDRESS_1 ",
    "scripts": "<script>",
    "comments": "<!--",
    "attributes": "<a b=",
    "fences": "```\n",
    "backticks": "`",
    "autolinks": "<http://",
    "references": "[a]: ",
}
"""What one long text is made of."""


def texts(size: int) -> Iterator[tuple[str, str]]:
    """One long text of each kind."""
    for name, piece in _PIECES.items():
        yield name, _fill(piece, size)


def _chat(content: Any) -> Body:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


def _text(piece: str, size: int) -> Body:
    return _chat(_fill(piece, size))


def _parts(piece: str, size: int) -> Body:
    """Content parts whose seams cut the piece in two."""
    middle = len(piece) // 2
    cut = [piece[middle:] + " " + piece[:middle]] * max(2, size // (len(piece) + 1))
    return _chat([{"type": "text", "text": text} for text in cut])


def _many(text: str, size: int) -> Body:
    each = len(text) + 30
    return {"model": "m", "messages": [{"role": "user", "content": text} for _ in range(max(1, size // each))]}


def _calls(arguments: str, count: int) -> Body:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"model": "m", "messages": [{"role": "assistant", "content": None, "tool_calls": [call] * count}]}


def _nested(depth: int) -> Any:
    value: Any = _VALUE
    for _ in range(depth):
        value = {"a": value}
    return value


def _json_in_json(size: int) -> str:
    text = "x" * max(1, size // 64)
    for _ in range(5):
        text = json.dumps({"a": text, "b": [text[:10]] * 3})
    return text


def _tools(size: int) -> Body:
    tool = {"type": "function", "function": {"name": "f", "description": _VALUE, "parameters": {"type": "object"}}}
    return {**_chat("hello"), "tools": [tool] * max(1, size // 120)}


def _system(piece: str, size: int) -> Body:
    middle = len(piece) // 2
    cut = [{"role": "system", "content": piece[middle:] + " " + piece[:middle]}] * max(2, size // (len(piece) + 30))
    return {"model": "m", "max_tokens": 1, "system": "a", "messages": cut}


_BODIES: Mapping[str, Hostile] = {
    "addresses across parts": Hostile("chat", lambda size: _parts("jane.doe@example.org", size)),
    "tokens across parts": Hostile("chat", lambda size: _parts("<|im_start|>", size)),
    "nested tokens across parts": Hostile("chat", lambda size: _parts("<|im_<|im_start|>start|>", size)),
    "tokens in single characters": Hostile(
        "chat", lambda size: _chat([{"type": "text", "text": char} for char in _fill("<|im_start|>", size // 8)])
    ),
    "one value over all parts": Hostile(
        "chat",
        lambda size: _chat([{"type": "text", "text": "sk-proj-" if not n else "a1B2"} for n in range(size // 8)]),
    ),
    "empty parts": Hostile("chat", lambda size: _chat([{"type": "text", "text": ""}] * (size // 8))),
    "strings as parts": Hostile("chat", lambda size: _chat(["jane.doe@exam", "ple.org "] * (size // 25))),
    "parts in parts": Hostile(
        "messages",
        lambda size: _chat(
            [{"type": "tool_result", "content": [{"type": "text", "text": "@b.co a"}] * (size // 20)}] * 2
        ),
    ),
    "many messages": Hostile("chat", lambda size: _many("hello, number 4", size)),
    "messages of one character": Hostile("chat", lambda size: _many("1", size)),
    "messages with parts": Hostile(
        "chat",
        lambda size: {
            "model": "m",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "a 1"}]}] * (size // 60),
        },
    ),
    "many addresses": Hostile("chat", lambda size: _many(_VALUE, size)),
    "many tools": Hostile("chat", _tools),
    "deep": Hostile("chat", lambda size: {**_chat("a"), "documents": [_nested(50)] * (size // 300)}),
    "many keys": Hostile("chat", lambda size: {**_chat("a"), "documents": [{f"k{n}": "v" for n in range(size // 12)}]}),
    "many top keys": Hostile("chat", lambda size: {**_chat("a"), **{f"k{n}": "1 v" for n in range(size // 12)}}),
    "long keys": Hostile(
        "chat", lambda size: {**_chat("a"), "documents": [{_fill(_VALUE, size // 8) + str(n): 1 for n in range(8)}]}
    ),
    "keys that pose": Hostile(
        "chat",
        lambda size: {**_chat("a"), "documents": [{f"k{n}\u200b": "v", f"k{n}": "w"} for n in range(size // 20)]},
    ),
    "many strings": Hostile("completions", lambda size: {"model": "m", "prompt": ["a 1"] * (size // 6)}),
    "many long strings": Hostile("embeddings", lambda size: {"model": "m", "input": [_VALUE * 10] * (size // 200)}),
    "arguments, numbers": Hostile("chat", lambda size: _calls(f"[{'1,' * (size // 2)}1]", 1)),
    "arguments, long numbers": Hostile("chat", lambda size: _calls(f"[{'4111111111111111,' * (size // 17)}1]", 1)),
    "arguments, floats": Hostile("chat", lambda size: _calls(f"[{'1.5,' * (size // 4)}1]", 1)),
    "arguments, numbers by key": Hostile(
        "chat", lambda size: _calls(json.dumps({f"phone{n}": 4930901820 for n in range(size // 24)}), 1)
    ),
    "arguments, strings": Hostile("chat", lambda size: _calls(json.dumps(["a 1"] * (size // 6)), 1)),
    "arguments, addresses": Hostile("chat", lambda size: _calls(json.dumps([_VALUE] * (size // 24)), 1)),
    "arguments, deep": Hostile("chat", lambda size: _calls("[" * 60 + "1," * (size // 2) + "1" + "]" * 60, 1)),
    "arguments, not closed": Hostile("chat", lambda size: _calls("[" * size, 1)),
    "arguments, JSON in JSON": Hostile("chat", lambda size: _calls(_json_in_json(size), 1)),
    "arguments, twice the keys": Hostile("chat", lambda size: _calls("{" + ",".join(['"a":1'] * (size // 6)) + "}", 1)),
    "arguments, escapes": Hostile("chat", lambda size: _calls('"' + "\\u0061" * (size // 6) + '"', 1)),
    "many calls": Hostile("chat", lambda size: _calls('{"a": 1}', size // 90)),
    "arguments as data": Hostile(
        "chat",
        lambda size: {
            "model": "m",
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": [7] * (size // 2)}}],
                }
            ],
        },
    ),
    "tool input": Hostile(
        "messages",
        lambda size: {
            "model": "m",
            "messages": [
                {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"a": [7] * (size // 2)}}]}
            ],
        },
    ),
    "systems with addresses": Hostile("messages", lambda size: _system("jane.doe@example.org", size)),
    "systems with tokens": Hostile("messages", lambda size: _system("<|im_start|>", size)),
    "system parts": Hostile(
        "messages", lambda size: {**_chat("a"), "system": [{"type": "text", "text": "@b.co a"}] * (size // 30)}
    ),
    "items": Hostile(
        "responses",
        lambda size: {
            "model": "m",
            "input": [{"type": "function_call_output", "call_id": "c", "output": _VALUE}] * (size // 80),
        },
    ),
    "items with calls": Hostile(
        "responses",
        lambda size: {
            "model": "m",
            "input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "[1, 2, 3]"}] * (size // 80),
        },
    ),
    "tokenized": Hostile("tokenize", lambda size: {"model": "m", "prompt": _fill(_VALUE, size)}),
}


def bodies() -> Iterator[tuple[str, Hostile]]:
    """Every shape of body; a long text of each kind is one too."""
    yield from _BODIES.items()
    for name, piece in _PIECES.items():
        yield f"text: {name}", Hostile("chat", partial(_text, piece))
