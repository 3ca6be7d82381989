"""How a question's body is read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, ENDPOINTS
from serving.gateway.errors import BadRequest
from serving.gateway.fields.lists import FIELDS, REFUSED
from serving.gateway.settings import GatewaySettings
from serving.gateway.steps.question import QuestionReader


def read(endpoint: str, settings: GatewaySettings | None = None, **fields: Any) -> RequestContext:
    context = RequestContext(
        CHAT if endpoint == "chat" else ENDPOINTS[f"/v1/{endpoint}"], {}, json.dumps({"model": "m", **fields}).encode()
    )
    QuestionReader(settings or GatewaySettings()).read(context)
    return context


@pytest.mark.parametrize(
    ("fields", "choices", "sequences"),
    [
        ({"prompt": "a"}, 1, 1),
        ({"prompt": "a", "n": 3}, 3, 3),
        ({"prompt": ["a", "b"], "n": 3}, 6, 6),
        ({"prompt": ["a", "b"], "n": 1, "best_of": 4}, 2, 8),
        ({"prompt": ["a"] * 128}, 128, 128),
        ({"prompt": [1, 2, 3]}, 1, 1),
        ({"prompt": [[1, 2], [3]], "n": 2}, 4, 4),
        ({"prompt": []}, 1, 1),
        ({}, 1, 1),
    ],
)
def test_answers_of_completions_are_counted(fields: dict[str, Any], choices: int, sequences: int) -> None:
    context = read("completions", **fields)

    assert (context.question.choices, context.question.sequences) == (choices, sequences)


def test_a_chats_prompt_is_no_batch() -> None:
    context = read("chat", prompt=["a", "b"], n=2)

    assert (context.question.choices, context.question.sequences) == (2, 2)
    assert context.question.ignored_fields == ("prompt",)


@pytest.mark.parametrize("n", [0, 129, "2", 2.0, True])
def test_n_is_a_whole_number_within_bounds(n: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        read("chat", n=n)
    assert refused.value.param == "n"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 100, "max_tokens": 25_000},
        {"n": 128, "max_completion_tokens": 4096, "logprobs": True, "top_logprobs": 20},
        {"n": 16, "max_tokens": 4096, "logprob_token_ids": list(range(60))},
        {"max_tokens": 100_000, "logprobs": True, "top_logprobs": 20},
        {"messages": [{"role": "user", "content": "a" * 500_000}], "prompt_logprobs": 20},
    ],
)
def test_what_an_answer_can_be_large_by_is_bounded(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        read("chat", **fields)
    assert refused.value.code == "answer_too_large"
    assert read("chat", GatewaySettings(max_answer_tokens=10**9), **fields).question.body == {"model": "m", **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 2**31 - 1},
        {"logprobs": True, "top_logprobs": 20},
        {"n": 128, "max_tokens": 4096},
        {"n": 4, "max_tokens": 4096, "logprobs": True, "top_logprobs": 20},
    ],
)
def test_usual_amounts_pass(fields: dict[str, Any]) -> None:
    assert read("chat", **fields).question.body == {"model": "m", **fields}


def test_what_the_client_sent_is_kept_for_its_receipt() -> None:
    context = RequestContext(CHAT, {}, b'{"model": "m", "tools": null, "system": "s", "messages": []}')

    asked = QuestionReader(GatewaySettings()).read(context)

    assert asked == {"model": "m", "tools": None, "system": "s", "messages": []}
    assert context.question.body == {"model": "m", "messages": []}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
EVERY_FIELD = sorted({name for fields in FIELDS.values() for name in fields} | set(REFUSED) | {"tools", "top_a"})


@settings(deadline=None)
@given(body=st.dictionaries(st.sampled_from(EVERY_FIELD), JSON, max_size=5))
@pytest.mark.parametrize("unknown", ["ignore", "pass"])
def test_no_body_makes_the_reader_fail(body: dict[str, Any], unknown: Any) -> None:
    for path in FIELDS:
        context = RequestContext(ENDPOINTS[path], {}, json.dumps({**body, "model": "m"}).encode())
        with suppress(BadRequest):
            QuestionReader(GatewaySettings(unknown_fields=unknown)).read(context)
            assert type(context.question.stream) is bool


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("value", ["true", 1, "yes"])
def test_stream_is_true_or_false(path: str, value: Any) -> None:
    context = RequestContext(ENDPOINTS[path], {}, json.dumps({"model": "m", "stream": value}).encode())
    if ENDPOINTS[path].streams:
        with pytest.raises(BadRequest):
            QuestionReader(GatewaySettings()).read(context)
    else:
        QuestionReader(GatewaySettings()).read(context)
        assert context.question.ignored_fields == ("stream",)
    assert not context.question.stream
