"""Tools that clients force, against the real engine: what comes back is a call, by its schema, without `strict`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.support.stack import DEFAULT_MODEL, Stack

pytestmark = pytest.mark.engine

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "maximum": 150, "minimum": 0},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
QUESTION = "Jane is 7 years old. Record her."
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
FUNCTION: dict[str, Any] = {"name": "Person", "description": "Records a person.", "parameters": SCHEMA}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key=stack.key, max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.gateway_url, api_key=stack.key, max_retries=0, timeout=120) as made:
        yield made


def is_person(arguments: Any) -> bool:
    return arguments.keys() == {"name", "age"} and type(arguments["name"]) is str and type(arguments["age"]) is int


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "Person"}}], ids=str)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("strict", [{}, {"strict": False}], ids=["unsaid", "false"])
def test_chats(client: openai.OpenAI, choice: Any, stream: bool, strict: dict[str, bool]) -> None:
    tools: list[Any] = [{"type": "function", "function": {**FUNCTION, **strict}}]
    asked: Any = {"model": DEFAULT_MODEL, "messages": ASKED, "tools": tools, "tool_choice": choice, "max_tokens": 80}

    if stream:
        deltas = [
            event.choices[0].delta for event in client.chat.completions.create(**asked, stream=True) if event.choices
        ]
        calls = [call for delta in deltas for call in delta.tool_calls or ()]
        said = "".join(call.function.arguments or "" for call in calls if call.index == 0)
    else:
        said = client.chat.completions.create(**asked).choices[0].message.tool_calls[0].function.arguments

    assert is_person(json.loads(said))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "Person"}], ids=str)
def test_responses(client: openai.OpenAI, choice: Any) -> None:
    tools: list[Any] = [{"type": "function", **FUNCTION}]
    answer = client.responses.create(
        model=DEFAULT_MODEL, input=QUESTION, tools=tools, tool_choice=choice, max_output_tokens=80
    )

    calls = [item for item in answer.output if item.type == "function_call"]
    assert is_person(json.loads(calls[0].arguments))


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "Person"}], ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_messages(claude: anthropic.Anthropic, choice: Any, stream: bool) -> None:
    tools: list[Any] = [{"name": "Person", "description": "Records a person.", "input_schema": SCHEMA}]
    asked: Any = {"model": DEFAULT_MODEL, "max_tokens": 80, "messages": ASKED, "tools": tools, "tool_choice": choice}

    if stream:
        with claude.messages.stream(**asked) as events:
            answer = events.get_final_message()
    else:
        answer = claude.messages.create(**asked)

    assert is_person(next(block.input for block in answer.content if block.type == "tool_use"))


def test_a_schema_that_no_grammar_can_be_made_of_costs_no_answer(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}, "required": ["a"]}
    answer = client.chat.completions.create(
        model=DEFAULT_MODEL,
        messages=ASKED,
        tools=[{"type": "function", "function": {**FUNCTION, "parameters": schema}}],
        tool_choice="required",
        max_tokens=40,
    )

    assert answer.choices[0].finish_reason
