"""LlamaIndex, through its class for servers like OpenAI's."""

from __future__ import annotations

import asyncio
from typing import Any

from checks import KEY, MODEL, QUESTION, TOO_LONG, V1, WRONG_KEY, Person
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

ASKED = [ChatMessage(role="user", content=QUESTION)]
TEMPLATE = PromptTemplate("{name} is 7 years old. Record her.")


def llm(**changed: Any) -> OpenAILike:
    asked: dict[str, Any] = {
        "model": MODEL,
        "api_base": V1,
        "api_key": KEY,
        "context_window": 8192,
        "is_chat_model": True,
        "is_function_calling_model": True,
        "max_tokens": 60,
        "max_retries": 0,
        "timeout": 600,  # its own is a minute, in which a busy machine may not answer
    }
    return OpenAILike(**{**asked, **changed})


def record(name: str, age: int) -> str:
    """Records a person."""
    return f"{name}, {age}"


RECORD = FunctionTool.from_defaults(fn=record, fn_schema=Person)


def forced() -> Any:
    answer = llm().chat_with_tools([RECORD], user_msg=QUESTION, tool_required=True)
    return llm().get_tool_calls_from_response(answer)[0].tool_kwargs


def predicted_stream() -> Any:
    """By a schema: LlamaIndex asks for a tool in streams, and forces none."""
    made = llm(should_use_structured_outputs=True)
    return [*made.stream_structured_predict(Person, TEMPLATE, name="Jane")][-1]


def predicted(**changed: Any) -> Any:
    return llm(**changed).structured_predict(Person, TEMPLATE, name="Jane")


CHECKS = {
    "chat": lambda: llm().chat(ASKED).message.content,
    "chat_async": lambda: asyncio.run(llm().achat(ASKED)).message.content,
    "stream": lambda: "".join(chunk.delta or "" for chunk in llm().stream_chat(ASKED)),
    "completion": lambda: llm(is_chat_model=False).complete(QUESTION).text,
    "completion_stream": lambda: "".join(
        piece.delta or "" for piece in llm(is_chat_model=False).stream_complete(QUESTION)
    ),
    "forced": forced,
    "structured": predicted,
    "structured_by_schema": lambda: predicted(should_use_structured_outputs=True),
    "structured_async": lambda: asyncio.run(llm().astructured_predict(Person, TEMPLATE, name="Jane")),
    "structured_chat": lambda: llm().as_structured_llm(Person).chat(ASKED).raw,
    "structured_stream": predicted_stream,
    "wrong_key": lambda: llm(api_key=WRONG_KEY).chat(ASKED),
    "unknown_model": lambda: llm(model="nobody").chat(ASKED),
    "too_long": lambda: llm().complete(TOO_LONG),
}
