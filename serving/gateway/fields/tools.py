"""Tools that a request forces: their arguments are to keep to their schema.

OpenAI's models keep to it, and so did older vLLM. vLLM 0.32 binds only what is called `strict`, so a forced tool is
called so here, in each endpoint's way of writing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.fields.lists import CHAT, MESSAGES, RESPONSES


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


def bound_tools(path: str, body: Mapping[str, Any]) -> list[Any]:
    """The tools of a request that forces one or any of them: those made strict."""
    choice = body["tool_choice"]
    name = None
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else choice.get("name")
    return [_bound(tool, path, name) for tool in body["tools"]]


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
