"""Chats: `{"messages": [{"role": "user", "content": "…"}, …]}`, with `tools` where used.

Other keys of a row are ignored, since data sets carry ids and sources of their own. ShareGPT's and Alpaca's shapes are
read too (`shapes`), in any file that `rows` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from training.data.rows import whole_rows
from training.data.shapes import chat_of
from training.data.sources import DataFile, read_files
from training.errors import DataError


class Message(BaseModel):
    """One turn of a chat, as OpenAI's API writes it."""

    model_config = ConfigDict(extra="allow")  # tool_call_id, name: templates may use them

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    weight: Literal[0, 1] | None = None
    """Of the assistant's messages: 0 is read and not learned from, as in OpenAI's fine-tuning format."""

    @model_validator(mode="after")
    def _check_says_something(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content or tool_calls")
        for call in self.tool_calls or ():
            arguments_of(call)
        return self

    @property
    def is_learned(self) -> bool:
        """Whether this is an answer to learn from."""
        return self.role == "assistant" and self.weight != 0

    def template_message(self) -> dict[str, Any]:
        """The message as a chat template takes it: as vLLM hands it over, field by field.

        Source: `vllm.renderers.chat_utils`, `_parse_chat_message_content` and `_postprocess_messages` of vLLM 0.32.
        Templates may look whether a key is there: nothing else of the message is passed on.
        """
        more = self.model_extra or {}
        made: dict[str, Any] = {"role": self.role, "content": self.content or ""}
        if self.role == "assistant":
            if self.tool_calls:
                made["tool_calls"] = [_template_call(call) for call in self.tool_calls]
            reasoning = more.get("reasoning", more.get("reasoning_content"))
            if reasoning is not None:
                made["reasoning"] = made["reasoning_content"] = reasoning
        if self.role == "tool" and "tool_call_id" in more:
            made["tool_call_id"] = more["tool_call_id"]
        if isinstance(more.get("name"), str):
            made["name"] = more["name"]
        return made


class Chat(BaseModel):
    """One conversation to learn from, or to be measured on."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    source: str = ""
    """`file:line`, for error messages."""

    @model_validator(mode="after")
    def _check_order(self) -> Chat:
        roles = [message.role for message in self.messages]
        if "assistant" not in roles:
            raise ValueError("no message has the role assistant, so there is nothing to learn")
        if "user" not in roles[: roles.index("assistant")]:
            raise ValueError("the assistant speaks before any user does")
        if "system" in roles[1:]:
            raise ValueError("only the first message may have the role system")
        if not any(message.is_learned for message in self.messages):
            raise ValueError("every answer has weight 0, so there is nothing to learn")
        return self

    def template_messages(self) -> list[dict[str, Any]]:
        """The messages as a chat template takes them."""
        return [message.template_message() for message in self.messages]

    def template_tools(self) -> list[dict[str, Any]] | None:
        """The tools as a chat template takes them: a description or parameters that are missing are null there."""
        if not self.tools:
            return None
        return [_template_tool(tool) for tool in self.tools]


def arguments_of(call: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a tool call, which travel as JSON in a string or as the object itself."""
    function = call.get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise ValueError('a tool call is {"type": "function", "function": {"name": …, "arguments": …}}')
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise ValueError("the arguments of a tool call are not JSON") from None
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of a tool call are not a JSON object")
    return arguments


def _template_call(call: dict[str, Any]) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "arguments": arguments_of(call)}}


def _template_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    known = {name: function.get(name) for name in ("name", "description", "parameters")}
    if function.get("strict") is not None:
        known["strict"] = function["strict"]
    return {"type": "function", "function": known}


def read_chats(path: Path) -> DataFile[Chat]:
    """Read every line; raises DataError at the first that is no chat. Blank lines are skipped."""
    return read_files(path, _chats, 'chats: write one {"messages": […]} a line')


def _chats(path: Path, content: bytes) -> Iterator[Chat]:
    return (_chat(row, source) for source, row in whole_rows(path, content))


def _chat(row: dict[str, Any], source: str) -> Chat:
    as_chat = chat_of(row) or row
    if "messages" not in as_chat:
        keys = ", ".join(list(row)[:8])
        raise DataError(f'{source}: is not a chat (it has {keys}): write one {{"messages": […]}} a line')
    try:
        chat = Chat.model_validate(as_chat)
    except ValidationError as error:
        raise DataError(f"{source}: {explain(error)}") from None
    except ValueError as error:
        raise DataError(f"{source}: {error}") from None
    return chat.model_copy(update={"source": source})


def explain(error: ValidationError) -> str:
    """The first thing that is wrong with a chat, and where in it."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    why = first["msg"].removeprefix("Value error, ")
    return f"{where}: {why}" if where else why
