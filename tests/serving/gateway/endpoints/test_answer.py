"""Whole answers of the endpoints without choices, and what a stream repeats of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.endpoints.answer import CleanTexts, clean_whole
from serving.gateway.endpoints.endpoint import TextField
from serving.gateway.errors import EngineFailed
from serving.gateway.streams.answer import CleanAnswer
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.endpoints.streams import response_object
from tests.support.questions import request

ADDRESS = "anna@example.org"


def message(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "content": [*blocks],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 7},
        **more,
    }


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def cleaned(answer: Any, path: str = "/v1/messages") -> tuple[CleanAnswer, RequestContext]:
    context = request(None, ENDPOINTS[path])
    _, guard = Guard(GuardSettings()).ask(context.question.body, context.endpoint.name)
    body = answer if isinstance(answer, bytes) else json.dumps(answer, indent=1).encode()
    return clean_whole(context, guard, body), context


def test_what_holds_nothing_leaves_as_the_bytes_that_came() -> None:
    body = json.dumps(message(text("Hello.")), indent=1).encode()

    clean, context = cleaned(body)

    assert clean.body is body
    assert clean.reports == []
    assert (context.answer.prompt_tokens, context.answer.completion_tokens, context.answer.finish_reason) == (
        5,
        7,
        "stop",
    )


@pytest.mark.parametrize(
    "block",
    [
        text(f"Write to {ADDRESS}."),
        {"type": "thinking", "thinking": f"Should I name {ADDRESS}?"},
        {"type": "tool_use", "id": "1", "name": "mail", "input": {"to": ADDRESS, "n": 3}},
        {"type": "of_another_kind", "note": f"to {ADDRESS}"},
    ],
    ids=lambda block: block["type"],
)
def test_a_value_is_masked_wherever_it_stands(block: dict[str, Any]) -> None:
    clean, _ = cleaned(message(block))

    assert ADDRESS.encode() not in clean.body
    assert sum(report.total for report in clean.reports) == 1
    [left] = json.loads(clean.body)["content"]
    assert left.keys() == block.keys()
    assert left["type"] == block["type"]


def test_a_tools_input_stays_json() -> None:
    block = {"type": "tool_use", "id": "1", "name": "mail", "input": {"to": ADDRESS, "n": 3}}

    [left] = json.loads(cleaned(message(block))[0].body)["content"]

    assert left["input"]["n"] == 3
    assert left["input"]["to"].startswith("[")


def test_vectors_pass_unread() -> None:
    body = b'{"data": [{"embedding": "AAAA"}], "usage": {"prompt_tokens": 9}, "note": "anna@example.org"}'

    clean, context = cleaned(body, "/v1/embeddings")

    assert clean.body is body
    assert context.answer.prompt_tokens == 9


def test_log_probabilities_do_not_spell_out_what_was_masked() -> None:
    answer = response_object(f"Write to {ADDRESS}.")
    answer["output"][0]["content"][0]["logprobs"] = [{"token": ADDRESS, "logprob": -1.0, "top_logprobs": []}]

    clean, _ = cleaned(answer, "/v1/responses")

    assert ADDRESS.encode() not in clean.body


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff{}"])
def test_what_is_no_answer_is_the_engines_failure(body: bytes) -> None:
    with pytest.raises(EngineFailed):
        cleaned(body)


def test_what_a_stream_repeats_is_cleaned_in_place() -> None:
    event = {"type": "response.output_text.done", "text": f"Write to {ADDRESS}.", "sequence_number": 4}
    _, guard = Guard(GuardSettings()).ask({"messages": []}, "responses")

    clean = CleanTexts(guard, event, [TextField(event, "text")])

    assert clean.changed
    assert ADDRESS not in str(event)
    assert event["sequence_number"] == 4
