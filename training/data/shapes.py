"""Chats in the shapes that data sets have, as OpenAI's messages; which shape it is follows from the keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
_ANSWERS = ("output", "response", "completion")


def chat_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row as `{"messages": […], "tools": […]}`, None where it is no chat; raises ValueError saying why."""
    if row.get("messages") is not None:
        made = messages_of(row["messages"])
    elif isinstance(row.get("conversations"), list):
        made = [*_system(row.get("system")), *messages_of(row["conversations"])]
    elif (answer := next((key for key in _ANSWERS if key in row), None)) and ("instruction" in row or "prompt" in row):
        made = messages_of([*_system(row.get("system")), *_instruction(row, answer)])
    else:
        return None
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except ValueError:
            raise ValueError("tools is not JSON") from None
    return {"messages": made} | ({"tools": tools} if tools else {})


def messages_of(turns: Any) -> Any:
    """Turns as OpenAI's messages, each content one text; raises ValueError. What is no list is returned as it is."""
    return [_message(turn) for turn in turns] if isinstance(turns, list) else turns


def _message(turn: Any) -> Any:
    message = _turn(turn)
    if not isinstance(message.get("content"), list):
        return message
    # As vLLM joins the parts for a template that takes a text.
    return {**message, "content": "\n".join(_text_of(part) for part in message["content"])}


def _text_of(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
        raise ValueError(f"content: a part is {kind or 'no content part'}: only text is learned from")
    return str(part["text"])


def _system(text: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": text}] if isinstance(text, str) and text else []


def _turn(turn: Any) -> dict[str, Any]:
    """ShareGPT's `{"from": "human", "value": …}`; some data sets mix its keys and names with OpenAI's."""
    if isinstance(turn, dict) and ("role" in turn or "content" in turn):
        role = turn.get("role")
        return {**turn, "role": _SPEAKERS.get(role.lower(), role)} if isinstance(role, str) else turn
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise ValueError('a turn is {"role": …, "content": …} or {"from": "human" or "gpt", "value": …}')
    if turn["from"] == "function_call":
        return {"role": "assistant", "tool_calls": [{"type": "function", "function": _call(turn["value"])}]}
    role = _SPEAKERS.get(str(turn["from"]).lower())
    if role is None:
        raise ValueError(f"from {turn['from']!r} is not one of {', '.join(_SPEAKERS)}")
    weight = {"weight": turn["weight"]} if turn.get("weight") is not None else {}
    return {"role": role, "content": turn["value"], **weight}


def _call(value: Any) -> dict[str, Any]:
    try:
        call = json.loads(value) if isinstance(value, str) else value
        return {"name": call["name"], "arguments": call.get("arguments", {})}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError('conversations: a function_call is {"name": …, "arguments": …}') from None


def _instruction(row: Mapping[str, Any], answer: str) -> list[dict[str, Any]]:
    """Alpaca's `instruction`, `input` and `output`; prompts and completions likewise."""
    question = row.get("instruction", row.get("prompt"))
    if isinstance(question, list):  # a prompt of messages and a completion of messages, as trl has them
        return [*question, *(row[answer] if isinstance(row[answer], list) else [_said("assistant", row[answer])])]
    if row.get("input"):
        question = f"{question}\n\n{row['input']}"
    history = row.get("history") or []
    earlier = [_said(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [*earlier, _said("user", question), _said("assistant", row[answer])]


def _said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}
