from __future__ import annotations

from typing import Any

import msgspec
import pytest

from serving.gateway.context import RequestContext
from serving.gateway.records import Mark
from serving.gateway.steps.question_body import mark_arguments, question_body
from tests.support.questions import CONVERSATION, request

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


class Engine:
    name = "one"

    def __init__(self, is_ours: bool = True) -> None:
        self._is_ours = is_ours
        self.schemes = ("gumbel",) if is_ours else ()

    def is_vllm(self, model: str) -> bool:
        return self._is_ours


def sent(context: RequestContext, engine: Engine | None = None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(question_body(context, engine or Engine(), **more))  # type: ignore[arg-type]
    return body


def test_the_question_goes_as_it_is_and_stays_so() -> None:
    body = {"model": "m", "messages": CONVERSATION, "temperature": 0.5}
    context = request(dict(body))

    told = sent(context, max_tokens=7)

    assert told.items() >= {**body, "max_tokens": 7}.items()
    assert context.question.body == body


def test_a_stream_is_asked_for_its_usage() -> None:
    body = {"model": "m", "messages": CONVERSATION, "stream": True, "stream_options": {"include_usage": False}}

    assert sent(request(body, stream=True))["stream_options"]["include_usage"] is True
    assert "stream_options" not in sent(request())


def test_our_engine_is_told_the_mark_with_its_permit() -> None:
    context = request(mark=Mark("gumbel", permit="mk1-0.permit"))

    assert mark_arguments(context) == {"signet_mark": "gumbel", "signet_key": "mk1-0.permit"}
    assert sent(context)["vllm_xargs"] == mark_arguments(context)
    assert mark_arguments(request()) is None
    assert "vllm_xargs" not in sent(request())


@pytest.mark.parametrize("is_ours", [True, False])
def test_forced_tools_are_bound_where_the_engine_can(is_ours: bool) -> None:
    body = {"model": "m", "messages": CONVERSATION, "tools": TOOLS, "tool_choice": "required"}

    told = sent(request(body, binds_tools=True), Engine(is_ours))

    assert told["tools"][0]["function"].get("strict", False) is is_ours
    assert body["tools"] == TOOLS
