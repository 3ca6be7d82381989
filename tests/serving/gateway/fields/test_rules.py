"""What of a request's fields goes on to an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.errors import BadRequest
from serving.gateway.fields.lists import BESIDE_TEMPLATE, CHAT, COMPLETIONS, FIELDS, NEVER_ADDED, REFUSED
from serving.gateway.fields.rules import FieldRules, ignored_header
from serving.gateway.settings import GatewaySettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def apply(body: dict[str, Any], path: str = CHAT, beside_template: bool = False, **more: Any) -> tuple[str, ...]:
    settings = GatewaySettings(**more)
    rules = FieldRules(added=settings.engine_fields, unknown=settings.unknown_fields, media_hosts=settings.media_hosts)
    return rules.apply(body, path, beside_template)


def refusal(body: dict[str, Any], path: str = CHAT, beside_template: bool = False, **more: Any) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        apply(body, path, beside_template, **more)
    assert refused.value.http_status == 400
    return refused.value


WHOLE = ("max_tokens", "max_completion_tokens", "n", "seed", "top_k", "min_tokens", "top_logprobs", "prompt_logprobs")
NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
BOOLEANS = ("stream", "logprobs", "use_beam_search", "ignore_eos", "return_token_ids", "parallel_tool_calls", "echo")


@pytest.mark.parametrize("name", [*WHOLE, *NUMBERS])
@pytest.mark.parametrize("value", ["0", " 0 ", "1e-9", True, False, [1], {"a": 1}, "", float("nan"), float("inf")])
def test_what_is_no_number_to_the_gateway_is_none_to_the_engine(name: str, value: Any) -> None:
    error = refusal({name: value})

    assert error.param == name
    assert error.code == "invalid_request"


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [1500.0, 1e3, 0.5, 10**30, -(10**30)])
def test_whole_numbers_are_whole_and_bounded(name: str, value: Any) -> None:
    assert refusal({name: value}).param == name


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("value", [0, 1, "true", "", [], 0.0])
def test_only_true_and_false_are_true_and_false(name: str, value: Any) -> None:
    assert refusal({name: value}).param == name


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"stop": ["x"] * 65}),
        (CHAT, {"stop": "x" * 1025}),
        (CHAT, {"stop": [1]}),
        (CHAT, {"logit_bias": {str(n): 1 for n in range(1025)}}),
        (CHAT, {"logit_bias": {"a": 1}}),
        (CHAT, {"logit_bias": {"1": "5"}}),
        (CHAT, {"logit_bias": [1]}),
        (CHAT, {"vllm_xargs": "abc"}),
        (CHAT, {"vllm_xargs": [1]}),
        (CHAT, {"stream_options": {"include_usage": "yes"}}),
        (CHAT, {"messages": "hello"}),
        (CHAT, {"bad_words": ["x" * 2000]}),
        (CHAT, {"stop_token_ids": [True]}),
        (COMPLETIONS, {"prompt": [1, "a"]}),
        (COMPLETIONS, {"prompt": [True]}),
        (COMPLETIONS, {"prompt": [["a"]]}),
        (COMPLETIONS, {"prompt": {"a": 1}}),
        (COMPLETIONS, {"logprobs": True}),
        (COMPLETIONS, {"best_of": "3"}),
        ("/v1/responses", {"max_output_tokens": "1500"}),
        ("/v1/responses", {"truncation": "left"}),
        ("/v1/messages", {"max_tokens": 10.0}),
        ("/v1/messages", {"tool_choice": "any"}),
        ("/v1/embeddings", {"dimensions": "3"}),
        ("/detokenize", {"tokens": ["1"]}),
    ],
)
def test_odd_values_are_refused_by_name(path: str, body: dict[str, Any]) -> None:
    assert refusal(body, path).param == next(iter(body))


# Embeddings have no template that could be cut.
@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path in FIELDS for name in REFUSED if name not in FIELDS[path]]
)
@pytest.mark.parametrize("unknown", ["ignore", "refuse", "pass"])
def test_what_steers_the_engine_is_refused_everywhere(path: str, name: str, unknown: str) -> None:
    error = refusal({name: {"remote_host": "10.0.0.1"}}, path, unknown_fields=unknown)

    assert (error.param, error.code) == (name, "field_refused")


@pytest.mark.parametrize("value", [None, False, 0])
def test_a_refused_field_that_asks_for_nothing_is_left_out(value: Any) -> None:
    body = {"priority": value, "model": "m"}

    assert apply(body) == ()
    assert body == {"model": "m"}


@pytest.mark.parametrize("name", sorted(BESIDE_TEMPLATE))
def test_beside_a_template_nothing_echoes_or_cuts_it(name: str) -> None:
    path = next(path for path in FIELDS if name in FIELDS[path])
    value = next(candidate for candidate in (True, 1, "auto") if FIELDS[path][name].fits(candidate))

    apply({name: value}, path)
    assert refusal({name: value}, path, beside_template=True).param == name


def test_unknown_fields_are_left_out_and_named() -> None:
    body = {"model": "m", "top_a": 1, "a\r\nx-evil: 1": 2, "null": None}

    ignored = apply(body)

    assert body == {"model": "m"}
    assert ignored == ("top_a", "a\r\nx-evil: 1")
    assert ignored_header(ignored) == b"top_a, a%0D%0Ax-evil%3A%201"


def test_a_long_list_of_unknown_fields_makes_a_short_header() -> None:
    header = ignored_header(tuple("x" * 5000 for _ in range(5000)))

    assert len(header) < 4000
    assert header.endswith(b", ...")


def test_unknown_fields_can_be_refused_or_passed() -> None:
    assert refusal({"top_a": 1}, unknown_fields="refuse").code == "unknown_field"
    body = {"top_a": 1}
    assert apply(body, unknown_fields="pass") == ()
    assert body == {"top_a": 1}


def test_an_operator_adds_fields_and_arguments() -> None:
    body = {"top_a": 1, "vllm_xargs": {"draft": 3}}

    assert apply(body, engine_fields=["top_a", "vllm_xargs.draft"], unknown_fields="refuse") == ()

    assert body == {"top_a": 1, "vllm_xargs": {"draft": 3}}
    assert refusal({"vllm_xargs": {"draft": 3}}).param == "vllm_xargs.draft"
    assert (
        refusal({"vllm_xargs": {"signet_key": "mk1"}}, engine_fields=["vllm_xargs.signet_key"]).code == "field_refused"
    )


@pytest.mark.parametrize("name", [*sorted(NEVER_ADDED), "not a name", "", "vllm_xargs."])
def test_what_no_operator_may_add(name: str) -> None:
    with pytest.raises(ValueError, match=r"field's name|clients may not set it"):
        GatewaySettings(engine_fields=[name])


def test_fields_of_templates_are_known_beside_one() -> None:
    body = {"variables": {"a": 1}, "prompt": {"id": "x"}}
    assert apply(body, beside_template=True) == ()
    assert apply(body) == ("variables", "prompt")


@settings(deadline=None)
@given(body=st.dictionaries(st.sampled_from([*FIELDS[CHAT], *REFUSED, "top_a", "é"]), JSON, max_size=6))
@pytest.mark.parametrize("path", FIELDS)
def test_what_goes_on_is_known_and_typed(path: str, body: dict[str, Any]) -> None:
    try:
        apply(body, path)
    except BadRequest:
        return
    known = FIELDS[path]
    assert all(name in known and known[name].fits(value) for name, value in body.items())
    assert json.loads(json.dumps(body)).keys() == body.keys()
