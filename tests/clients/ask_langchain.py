"""LangChain, through its packages for OpenAI and Anthropic."""

from __future__ import annotations

import asyncio
from typing import Any

from checks import ASKED, KEY, MODEL, QUESTION, TOO_LONG, URL, V1, WRONG_KEY, Person
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def openai(**changed: Any) -> ChatOpenAI:
    asked: dict[str, Any] = {"model": MODEL, "base_url": V1, "api_key": KEY, "max_tokens": 60, "max_retries": 0}
    return ChatOpenAI(**{**asked, **changed})


def claude(**changed: Any) -> ChatAnthropic:
    asked: dict[str, Any] = {"model": MODEL, "base_url": URL, "api_key": KEY, "max_tokens": 60, "max_retries": 0}
    return ChatAnthropic(**{**asked, **changed})


@tool
def record(person: Person) -> str:
    """Records a person."""
    return person.name


def forced() -> Any:
    return openai().bind_tools([record], tool_choice="any").invoke(ASKED).tool_calls[0]["args"]["person"]


def forced_stream() -> Any:
    message, *more = openai().bind_tools([record], tool_choice="record").stream(ASKED)
    for chunk in more:
        message += chunk
    return message.tool_calls[0]["args"]["person"]


def tool_turns() -> str:
    """A call, its result, and the answer to both."""
    asked = openai().bind_tools([record], tool_choice="any").invoke(ASKED)
    result = record.invoke(asked.tool_calls[0])
    return openai().bind_tools([record]).invoke([*ASKED, asked, result]).id


def streamed(model: Any) -> str:
    return "".join(chunk.text for chunk in model.stream(QUESTION))


CHECKS = {
    "chat": lambda: openai().invoke(QUESTION).text,
    "chat_usage": lambda: openai().invoke(QUESTION).usage_metadata["output_tokens"],
    "chat_async": lambda: asyncio.run(openai().ainvoke(QUESTION)).text,
    "batch": lambda: "".join(answer.text for answer in openai().batch([QUESTION, "Hello"])),
    "stream": lambda: streamed(openai()),
    "responses": lambda: openai(use_responses_api=True).invoke(QUESTION).text,
    "responses_stream": lambda: streamed(openai(use_responses_api=True)),
    "messages": lambda: claude().invoke(QUESTION).text,
    "messages_stream": lambda: streamed(claude()),
    "forced": forced,
    "forced_stream": forced_stream,
    "tool_turns": tool_turns,
    "structured": lambda: openai().with_structured_output(Person).invoke(QUESTION),
    "structured_by_tool": lambda: openai().with_structured_output(Person, method="function_calling").invoke(QUESTION),
    "structured_by_responses": lambda: openai(use_responses_api=True).with_structured_output(Person).invoke(QUESTION),
    "structured_messages": lambda: claude().with_structured_output(Person).invoke(QUESTION),
    "wrong_key": lambda: openai(api_key=WRONG_KEY).invoke(QUESTION),
    "wrong_key_messages": lambda: claude(api_key=WRONG_KEY).invoke(QUESTION),
    "unknown_model": lambda: openai(model="nobody").invoke(QUESTION),
    "too_long": lambda: openai().invoke(TOO_LONG),
    "embeddings": lambda: OpenAIEmbeddings(
        model=MODEL, base_url=V1, api_key=KEY, max_retries=0, check_embedding_ctx_length=False
    ).embed_query(QUESTION),
}
