"""What clients and frameworks send reaches the engine whole: written here in their shapes, with nothing left out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.gateways import RunningGateway
from tests.support.scripted import ScriptedEngine, answer, whole

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
FUNCTION: dict[str, Any] = {"name": "Person", "description": "A person", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "Person"}}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Who is it?"}]}]
TEXT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is it?"}]
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
USAGE = {"include_usage": True}

CHATS: dict[str, dict[str, Any]] = {
    "LangChain": {
        "messages": TEXT, "temperature": 0.7, "n": 1, "max_completion_tokens": 64, "seed": 1, "top_p": 1,
        "frequency_penalty": 0, "presence_penalty": 0.5, "logprobs": True, "top_logprobs": 2,
        "logit_bias": {"50256": -100}, "stop": ["\n\n"], "parallel_tool_calls": False, "tools": [TOOL],
        "tool_choice": NAMED, "reasoning_effort": "low",
    },
    "LangChain, structured": {
        "messages": PARTS,
        "response_format": {"type": "json_schema", "json_schema": {"name": "Person", "schema": SCHEMA, "strict": True}},
    },
    "LlamaIndex": {
        "messages": TEXT, "temperature": 0.1, "max_tokens": 128, "parallel_tool_calls": False,
        "tool_choice": "required", "tools": [{"type": "function", "function": {**FUNCTION, "strict": False}}],
    },
    "Instructor": {"messages": TEXT, "tools": [TOOL], "tool_choice": NAMED},
    "Instructor, JSON": {"messages": TEXT, "response_format": {"type": "json_object"}, "max_tokens": 4096},
    "LiteLLM": {"messages": TEXT, "temperature": 1, "user": "u-1", "metadata": {"trace": "t"}, "max_tokens": 10},
    "AI SDK": {
        "messages": PARTS, "max_tokens": 50, "temperature": 0, "top_p": 0.95, "seed": 42, "stop": ["END"],
        "tools": [TOOL], "tool_choice": "auto", "user": "u",
    },
    "OpenAI": {
        "messages": [{"role": "developer", "content": "Be brief."}, *PARTS], "store": False, "service_tier": "auto",
        "metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k", "verbosity": "low",
        "prompt_cache_retention": "24h", "modalities": ["text"], "prediction": {"type": "content", "content": "It is"},
        "web_search_options": {}, "stream_options": USAGE, "stream": True,
    },
    "OpenAI, a picture and a file": {
        "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ]}],
    },
    "OpenAI, functions": {"messages": TEXT, "functions": [FUNCTION], "function_call": {"name": "Person"}},
    "vLLM's documentation": {
        "messages": TEXT, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05, "length_penalty": 1.0,
        "min_tokens": 1, "stop_token_ids": [2], "ignore_eos": False, "skip_special_tokens": True,
        "spaces_between_special_tokens": True, "include_stop_str_in_output": False,
        "structured_outputs": {"choice": ["yes", "no"]}, "bad_words": ["bad"],
        "chat_template_kwargs": {"enable_thinking": False}, "add_generation_prompt": True, "include_reasoning": True,
        "documents": [{"title": "a", "text": "b"}], "thinking_token_budget": 10, "allowed_token_ids": [1, 2],
        "prompt_logprobs": 0, "return_tokens_as_token_ids": True, "return_token_ids": True, "echo": False,
        "repetition_detection": {"max_pattern_size": 4, "min_count": 2}, "add_special_tokens": False,
    },
}  # fmt: skip
OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    ("/v1/completions", "OpenAI", {
        "prompt": "Once", "max_tokens": 5, "temperature": 0.5, "echo": True, "logprobs": 1, "suffix": "end",
        "user": "u", "stop": None, "n": 2, "best_of": 2, "presence_penalty": 0, "seed": 1, "logit_bias": {"1": 1.5},
    }),
    ("/v1/completions", "lm-eval", {
        "prompt": ["a b", "c d"], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234,
    }),
    ("/v1/responses", "OpenAI", {
        "input": "Who?", "instructions": "Be brief.", "max_output_tokens": 20, "temperature": 0.3, "top_p": 1,
        "tools": [{"type": "function", "name": "Person", "parameters": SCHEMA}], "tool_choice": "auto",
        "parallel_tool_calls": True, "metadata": {"a": "b"}, "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low"}, "truncation": "disabled", "include": ["reasoning.encrypted_content"],
        "service_tier": "auto", "prompt_cache_key": "k", "safety_identifier": "s", "top_logprobs": 0, "store": False,
    }),
    ("/v1/responses", "AI SDK", {
        "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "Who?"}, {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
        ]}],
        "store": False, "max_output_tokens": 20,
    }),
    ("/v1/messages", "Anthropic", {
        "max_tokens": 30, "temperature": 1, "top_k": 5, "top_p": 0.9, "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "Who?", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        ]}],
        "tools": [{"name": "Person", "description": "A person", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"}, "metadata": {"user_id": "u"}, "service_tier": "auto",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }),
    ("/v1/messages/count_tokens", "Anthropic", {"messages": TEXT[1:], "system": "Be brief.", "tools": []}),
    ("/v1/embeddings", "OpenAI", {
        "input": ["a", "b"], "encoding_format": "base64", "dimensions": 256, "user": "u", "truncate_prompt_tokens": -1,
    }),
]  # fmt: skip
OURS = {"cache_salt", "vllm_xargs"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(pytest.param("/v1/chat/completions", body, id=f"chat, {name}") for name, body in CHATS.items()),
        *(pytest.param(path, body, id=f"{path}, {name}") for path, name, body in OTHERS),
    ],
)
def test_nothing_is_lost(gateway: RunningGateway, engine: ScriptedEngine, path: str, body: dict[str, Any]) -> None:
    engine.script = lambda _: whole(answer("It is Jane."))

    response = httpx.post(
        gateway.url + path,
        headers={"authorization": f"Bearer {gateway.key}", "x-signet-mark": "off"},
        json={"model": "scripted", **body},
        timeout=30,
    )

    assert response.status_code == 200, response.text
    assert "x-signet-ignored-fields" not in response.headers
    sent = {name: value for name, value in engine.seen[-1].body.items() if name not in OURS}
    if body.get("stream"):
        assert sent.pop("return_token_ids") is True
    asked = {name: value for name, value in {"model": "scripted", **body}.items() if value is not None}
    if body.get("tool_choice") in (NAMED, "required"):
        asked["tools"] = [{"type": "function", "function": {**FUNCTION, "strict": True}}]
    assert sent == asked
