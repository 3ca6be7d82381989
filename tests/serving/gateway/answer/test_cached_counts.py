"""Usage that does not tell what others have asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.gateway.answer.cached_counts import without_cached_counts

CHAT = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0}}
RESPONSES = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}}
MESSAGES = {"input_tokens": 1, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 0, "output_tokens": 2}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", " : ")])
@pytest.mark.parametrize("usage", [CHAT, RESPONSES, MESSAGES])
@pytest.mark.parametrize("is_stream", [True, False])
def test_nothing_was_cached(usage: dict[str, Any], separators: tuple[str, str], is_stream: bool) -> None:
    text = 'say "cached_tokens": 8 and "cache_read_input_tokens": 8'
    data = json.dumps({"content": text, "usage": usage, "message": {"usage": usage}}, separators=separators).encode()
    data = b"event: x\ndata: " + data + b"\n\n" + b"data: [DONE]\n\n" if is_stream else data

    read = without_cached_counts(data, is_stream)

    if is_stream:
        assert read.endswith(b"\n\ndata: [DONE]\n\n")
        read = read.split(b"\n\n")[0].removeprefix(b"event: x\ndata: ")
    answer = json.loads(read)
    assert answer["content"] == text
    for found in (answer["usage"], answer["message"]["usage"]):
        details = found.get("prompt_tokens_details") or found.get("input_tokens_details") or {}
        assert not details.get("cached_tokens")
        assert not found.get("cache_read_input_tokens")
        assert found.get("input_tokens", 9) == 9


@pytest.mark.parametrize("data", [b"", b"data: {}\n\n", b'data: {"cached_tokens"\n\n', b'{"cache_read_input_tokens": '])
def test_what_holds_no_counts_stays(data: bytes) -> None:
    assert without_cached_counts(data, is_stream=True) == data
    assert without_cached_counts(data, is_stream=False) == data
