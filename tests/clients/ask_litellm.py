"""LiteLLM as a client, of OpenAI's endpoints and Anthropic's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
from checks import ASKED, KEY, MODEL, QUESTION, TOO_LONG, URL, V1, WRONG_KEY, Person

OPENAI: dict[str, Any] = {
    "model": f"openai/{MODEL}",
    "api_base": V1,
    "api_key": KEY,
    "max_tokens": 60,
    "max_retries": 0,
}
CLAUDE: dict[str, Any] = {**OPENAI, "model": f"anthropic/{MODEL}", "api_base": URL}
FUNCTION = {"name": "record", "description": "Records a person.", "parameters": Person.model_json_schema()}
FORCED: dict[str, Any] = {
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "record"}},
}


def asked(where: dict[str, Any] = OPENAI, **more: Any) -> Any:
    return litellm.completion(**{"messages": ASKED, **where, **more})


def content(answer: Any) -> str:
    return answer.choices[0].message.content


def arguments(answer: Any) -> Any:
    return json.loads(answer.choices[0].message.tool_calls[0].function.arguments)


def streamed(where: dict[str, Any] = OPENAI) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in asked(where, stream=True))


async def streamed_async() -> str:
    chunks = await litellm.acompletion(messages=ASKED, **OPENAI, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def forced_stream() -> Any:
    chunks = [*asked(**FORCED, stream=True)]
    return arguments(litellm.stream_chunk_builder(chunks, messages=ASKED))


def responses() -> str:
    where = {name: value for name, value in OPENAI.items() if name != "max_tokens"}
    answer = litellm.responses(**where, input=QUESTION, max_output_tokens=60)
    return answer.output[0].content[0].text


CHECKS = {
    "chat": lambda: content(asked()),
    "chat_async": lambda: content(asyncio.run(litellm.acompletion(messages=ASKED, **OPENAI))),
    "stream": streamed,
    "stream_async": lambda: asyncio.run(streamed_async()),
    "completion": lambda: (
        litellm.text_completion(prompt=QUESTION, **{**OPENAI, "model": f"text-completion-openai/{MODEL}"})
        .choices[0]
        .text
    ),
    "responses": responses,
    "messages": lambda: content(asked(CLAUDE)),
    "messages_stream": lambda: streamed(CLAUDE),
    "forced": lambda: arguments(asked(**FORCED)),
    "forced_stream": forced_stream,
    "forced_messages": lambda: arguments(asked(CLAUDE, **FORCED)),
    "structured": lambda: json.loads(content(asked(response_format=Person))),
    "models": lambda: litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=KEY, api_base=V1
    ),
    "wrong_key": lambda: asked(api_key=WRONG_KEY),
    "wrong_key_messages": lambda: asked(CLAUDE, api_key=WRONG_KEY),
    "unknown_model": lambda: asked(model="openai/nobody"),
    "too_long": lambda: asked(messages=[{"role": "user", "content": TOO_LONG}]),
    "embeddings": lambda: litellm.embedding(f"openai/{MODEL}", [QUESTION], api_base=V1, api_key=KEY, max_retries=0),
}
