"""Tools that a request forces: their arguments are to keep to their schema.

OpenAI's models keep to it, and so did older vLLM. Since 0.20 or so vLLM binds only what is called `strict`, so a forced
tool is called so here, in each endpoint's way of writing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.fields.lists import CHAT, MESSAGES, RESPONSES

Json = dict[str, Any]


def forces_tool(path: str, body: Mapping[str, Any]) -> bool:
    """Whether the request has tools, and one of them must be called."""
    choice = body.get("tool_choice")
    if not choice or not body.get("tools"):
        return False
    if path == MESSAGES:
        return isinstance(choice, dict) and choice.get("type") in ("any", "tool")
    if path not in (CHAT, RESPONSES):
        return False
    return choice == "required" or (isinstance(choice, dict) and choice.get("type") == "function")


def bind_forced(path: str, body: Json) -> Json:
    """`body` with the tools that it forces made strict; the same body where there is nothing to do."""
    if not forces_tool(path, body):
        return body
    choice = body["tool_choice"]
    name = None
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else choice.get("name")
    return {**body, "tools": [_bound(tool, path, name) for tool in body["tools"]]}


def _bound(tool: Any, path: str, name: Any) -> Any:
    """The tool made strict if it is a function, of this name where one is given."""
    if not isinstance(tool, dict):
        return tool
    if path == CHAT:
        function = tool.get("function")
        is_meant = isinstance(function, dict) and name in (None, function.get("name"))
        return {**tool, "function": {**function, "strict": True}} if isinstance(function, dict) and is_meant else tool
    is_function = tool.get("type") == "function" or (path == MESSAGES and "input_schema" in tool)
    return {**tool, "strict": True} if is_function and name in (None, tool.get("name")) else tool
