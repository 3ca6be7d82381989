"""An answer that no client has seen a byte of is asked for again, elsewhere, when its engine fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from serving.gateway.answer.failover import RESERVE, RetryBudget
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import CLOSE, ScriptedEngine, answer, head, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
GOOD = whole(answer("from the good one"))
HALF = json.dumps(answer("from the bad one")).encode()


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[ScriptedEngine, ScriptedEngine]]:
    pair = ScriptedEngine(), ScriptedEngine()
    yield pair
    for engine in pair:
        engine.stop()


@pytest.fixture(scope="module")
def two(engines: tuple[ScriptedEngine, ScriptedEngine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("two")
    settings = {"SIGNET_GATEWAY__CIRCUIT__CONSECUTIVE_FAILURES": "1000"}
    gateway = start_gateway(home, engines[0].url, engines[1].url, **settings)
    wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "an engine is up", gateway.process)
    yield gateway
    stop_gateway(gateway)


def ask(gateway: RunningGateway) -> str | None:
    return gateway.client().chat.completions.create(model="scripted", messages=HELLO).choices[0].message.content


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([CLOSE], id="closes-before-it-answers"),
        pytest.param([head(length=len(HALF)), HALF[:40], CLOSE], id="breaks-off-half-way"),
        pytest.param(whole({"error": {"message": "boom"}}, status=500), id="5xx"),
        pytest.param([head(length=9) + b"<garbage>"], id="garbage"),
        pytest.param([b"not http at all\r\n\r\n", CLOSE], id="no-http"),
        pytest.param(
            whole({"choices": [{"message": {"content": "ha"}, "finish_reason": "abort"}]}), id="aborted-at-shutdown"
        ),
    ],
)
def test_a_failing_engine_is_passed_over(
    bad: list[object], engines: tuple[ScriptedEngine, ScriptedEngine], two: RunningGateway
) -> None:
    """Whichever of the two is asked first: the first question of all meets the bad script."""
    asked: list[str] = []

    def script(_: object) -> list[object]:
        asked.append("")
        return bad if len(asked) == 1 else GOOD

    for engine in engines:
        engine.script = script

    assert ask(two) == "from the good one"
    assert len(asked) == 2


def test_a_refusal_is_an_answer(engines: tuple[ScriptedEngine, ScriptedEngine], two: RunningGateway) -> None:
    seen = sum(len(engine.seen) for engine in engines)
    for engine in engines:
        engine.script = lambda _: whole({"error": {"message": "no such thing", "param": "x"}}, status=400)

    with pytest.raises(openai.BadRequestError, match="no such thing"):
        ask(two)

    assert sum(len(engine.seen) for engine in engines) == seen + 1


def test_engines_that_all_fail_are_asked_once_each(
    engines: tuple[ScriptedEngine, ScriptedEngine], two: RunningGateway
) -> None:
    seen = sum(len(engine.seen) for engine in engines)
    for engine in engines:
        engine.script = lambda _: whole({"error": {"message": "boom"}}, status=500)

    with pytest.raises(openai.InternalServerError) as caught:
        ask(two)

    assert caught.value.code == "engine_error"
    assert sum(len(engine.seen) for engine in engines) == seen + 2


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(0.2)
    allowed = 0
    for _ in range(1000):
        budget.request()
        allowed += budget.withdraw()

    assert allowed == pytest.approx(RESERVE + 200, abs=2)


def test_the_budget_saves_only_so_much() -> None:
    budget = RetryBudget(1.0)
    for _ in range(10_000):
        budget.request()

    assert sum(budget.withdraw() for _ in range(10_000)) <= 100
