"""Which scheme an answer is marked with: by header, by the key's default, by what temperature and engine allow."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, get_args

import openai
import pytest

from serving.engine.plugin.arguments import SCHEMES as MADE_BY_ENGINES
from serving.gateway.engines.load import parse_sampling, parse_schemes
from serving.gateway.steps.mark import SCHEMES
from serving.identity.principal import MarkDefault
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine, answer, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def mark_of(client: openai.OpenAI, header: str | None = None, **more: Any) -> str:
    """The answer's mark: its scheme, or off with the reason."""
    headers = {} if header is None else {"X-Signet-Mark": header}
    raw = client.chat.completions.with_raw_response.create(
        model="scripted", messages=HELLO, extra_headers=headers, **more
    )
    return raw.headers["x-signet-mark"].partition(";key=")[0]


def receipt_of(client: openai.OpenAI) -> dict[str, Any]:
    """The claims of an answer's receipt."""
    raw = client.chat.completions.with_raw_response.create(
        model="scripted", messages=HELLO, extra_headers={"X-Signet-Receipt": "on"}
    )
    payload = raw.headers["x-signet-receipt"].split("~")[0].split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@pytest.fixture(autouse=True)
def _answers(engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("ok"))


def test_gateway_engine_and_keys_know_the_same_schemes() -> None:
    assert SCHEMES == MADE_BY_ENGINES
    assert {"on", "off", *SCHEMES} == set(get_args(MarkDefault))


@pytest.mark.parametrize("scheme", ["gumbel", "kgw", "synthid"])
def test_a_request_chooses_the_scheme(client: openai.OpenAI, engine: ScriptedEngine, scheme: str) -> None:
    assert mark_of(client, scheme) == scheme
    assert engine.seen[-1].body["vllm_xargs"]["signet_mark"] == scheme


def test_greedy_answers_carry_a_green_list_when_it_is_asked_for(client: openai.OpenAI) -> None:
    assert mark_of(client, "kgw", temperature=0) == "kgw"
    assert mark_of(client, temperature=0) == "off;reason=greedy"
    with pytest.raises(openai.BadRequestError, match="cannot carry a synthid mark; try kgw"):
        mark_of(client, "synthid", temperature=0)


@pytest.mark.parametrize(
    "sampling",
    [{"top_k": 1}, {"top_p": 1e-7}, {"min_p": 1.0}, {"min_p": 1}, {"temperature": 1e-6}, {"use_beam_search": True}],
)
def test_answers_of_the_likeliest_token_alone_say_that_they_carry_no_mark(
    client: openai.OpenAI, engine: ScriptedEngine, sampling: dict[str, Any]
) -> None:
    note = "beam-search" if "use_beam_search" in sampling else "greedy"
    assert mark_of(client, extra_body=sampling) == f"off;reason={note}"
    assert "vllm_xargs" not in engine.seen[-1].body
    with pytest.raises(openai.BadRequestError):
        mark_of(client, "on", extra_body=sampling)
    if note == "greedy":
        assert mark_of(client, "kgw", extra_body=sampling) == "kgw"


def test_one_token_over_and_over_carries_no_mark(client: openai.OpenAI) -> None:
    assert mark_of(client, extra_body={"allowed_token_ids": [7]}) == "off;reason=greedy"
    with pytest.raises(openai.BadRequestError, match="one token over and over"):
        mark_of(client, "kgw", extra_body={"allowed_token_ids": [7]})


@pytest.mark.parametrize("sampling", [{"top_k": 2}, {"top_k": -1}, {"top_p": 0.01}, {"min_p": 0.99}])
def test_answers_that_leave_a_choice_are_marked(client: openai.OpenAI, sampling: dict[str, Any]) -> None:
    assert mark_of(client, temperature=0.1, extra_body=sampling) == "gumbel"


def test_a_model_that_is_greedy_by_itself_is_not_said_to_be_marked(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.fixed_paths["/metrics"] += b'signet_engine_default_sampling{parameter="temperature"} 0.0\n'
    engine.script = lambda _: whole(answer("ok"))
    gateway = start_gateway(tmp_path, engine.url)
    try:
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 20, "the engine is known")
        client = gateway.client()

        assert mark_of(client) == "off;reason=greedy"
        assert "vllm_xargs" not in engine.seen[-1].body
        assert receipt_of(client)["mark"] == "off"
        assert mark_of(client, "kgw") == "kgw"
        assert mark_of(client, temperature=0.7) == "gumbel"
        with pytest.raises(openai.BadRequestError, match="own settings leave one token"):
            mark_of(client, "gumbel")
    finally:
        stop_gateway(gateway)
        engine.stop()


def test_sampling_is_read_from_the_engines_metrics() -> None:
    series = b"signet_engine_default_sampling{%s} %s\n"
    metrics = b"".join(
        series % pair
        for pair in [
            (b'parameter="temperature"', b"0.2"),
            (b'parameter="top_k",pid="7"', b"1.0"),
            (b'parameter="top_p"', b"1.2.3"),
            (b'parameter="other"', b"1"),
        ]
    )
    assert parse_sampling(metrics) == {"temperature": 0.2, "top_k": 1.0}


def test_a_scheme_that_the_engine_does_not_make_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no dual-gumbel marks") as caught:
        mark_of(client, "dual-gumbel")

    assert caught.value.code == "mark_impossible"


def test_the_keys_default_is_a_scheme(gateway: RunningGateway) -> None:
    client = gateway.client(gateway.new_key("--mark", "synthid"))

    assert mark_of(client) == mark_of(client, "on") == "synthid"
    assert mark_of(client, "gumbel") == "gumbel"
    assert mark_of(client, "off") == "off"


def test_on_is_the_default_scheme_for_a_key_that_is_off(gateway: RunningGateway) -> None:
    client = gateway.client(gateway.new_key("--mark", "off"))

    assert mark_of(client) == "off"
    assert mark_of(client, "on") == "gumbel"


def test_a_default_that_the_engine_does_not_make_is_left_out(gateway: RunningGateway) -> None:
    client = gateway.client(gateway.new_key("--mark", "dual-gumbel"))

    assert mark_of(client) == "off;reason=engine"


def test_a_key_that_may_not_choose_keeps_to_its_scheme(gateway: RunningGateway) -> None:
    client = gateway.client(gateway.new_key("--mark", "kgw", "--no-may-choose-mark"))

    assert mark_of(client, "on") == mark_of(client, "kgw") == "kgw"
    for header in ("gumbel", "off"):
        with pytest.raises(openai.PermissionDeniedError, match="whether or how"):
            mark_of(client, header)


@pytest.mark.parametrize(
    ("metrics", "schemes"),
    [
        (b'a 1\nsignet_engine_plugin_info{schemes="gumbel,kgw"} 1.0\nb 2\n', {"gumbel", "kgw"}),
        (b'signet_engine_plugin_info{pid="7",schemes="gumbel"} 1.0\n', {"gumbel"}),
        (b'# HELP signet_engine_plugin_info x{schemes="y"}\n', set()),
        (b"", set()),
    ],
)
def test_schemes_are_read_from_the_engines_metrics(metrics: bytes, schemes: set[str]) -> None:
    assert parse_schemes(metrics) == schemes


def test_models_that_no_engine_lists_share_a_key(tmp_path: Path) -> None:
    """Else every name that a client makes up would be one more key in the keyring."""
    engine = ScriptedEngine()
    del engine.fixed_paths["/v1/models"]
    engine.script = lambda _: whole(answer("ok"))
    gateway = start_gateway(tmp_path, engine.url)
    try:
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 20, "the engine is known")
        create = gateway.client(gateway.key).chat.completions.with_raw_response.create

        marks = {create(model=name, messages=HELLO).headers["x-signet-mark"] for name in ("one", "two", "three")}
    finally:
        stop_gateway(gateway)
        engine.stop()

    assert len(marks) == 1
    assert "gumbel;key=mk" in marks.pop()
