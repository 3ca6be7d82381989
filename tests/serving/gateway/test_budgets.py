"""Budgets through a real gateway: capped, refused in one line, kept over restarts, never leaked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import openai
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import CLOSE, EVENTS, HANG, ScriptedEngine, SeenRequest, answer, chunk, stream, whole

# A prompt token is free and an answer's token costs a millionth of a dollar: the scripted answer of 7 costs $0.000007.
PRICES = {"scripted": {"prompt_per_million": "0", "completion_per_million": "1"}}
QUESTION = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def spending(
    engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[RunningGateway]:
    running = start_gateway(
        tmp_path_factory.mktemp("budgets"),
        engine.url,
        SIGNET_PRICES=json.dumps(PRICES),
        SIGNET_GATEWAY__WORKERS=request.param,
        SIGNET_IDENTITY__POLL_INTERVAL_S="0.1",
        SIGNET_IDENTITY__BUDGET_ANSWER_TOKENS="100",
    )
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


def new_key(gateway: RunningGateway, *options: str) -> str:
    """A key that every worker knows: each connection may meet another one."""
    key = gateway.new_key(*options)
    models, headers = f"{gateway.url}/v1/models", {"authorization": f"Bearer {key}"}
    wait_until(lambda: all(httpx.get(models, headers=headers).is_success for _ in range(12)), 5, "all know the key")
    return key


def ask(gateway: RunningGateway, key: str, timeout: float = 30, **more: object) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json={"model": "scripted", "messages": QUESTION, **more},
        timeout=timeout,
    )


def code_of(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def seen_last(engine: ScriptedEngine) -> dict[str, object]:
    return engine.seen[-1].body


def test_a_used_up_budget_is_refused_as_openai_does(spending: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    key = new_key(spending, "--budget", "month=0.00002")

    assert ask(spending, key, max_tokens=7).status_code == 200
    assert ask(spending, key, max_tokens=7).status_code == 200
    refused = ask(spending, key, max_tokens=7)

    assert (refused.status_code, code_of(refused)) == (429, "insufficient_quota")
    assert refused.json()["error"]["type"] == "insufficient_quota"
    assert "has $0.000006 left" in refused.json()["error"]["message"]
    assert "retry-after" not in refused.headers
    assert refused.headers["x-should-retry"] == "false"
    with pytest.raises(openai.RateLimitError) as raised:
        spending.client(key).chat.completions.create(model="scripted", messages=QUESTION, max_tokens=7)
    assert raised.value.code == "insufficient_quota"


def test_an_answer_without_a_named_length_is_capped(spending: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    key = new_key(spending, "--budget", "day=0.00011")

    ask(spending, key)
    assert seen_last(engine)["max_tokens"] == 100
    ask(spending, key, max_tokens=60)
    assert seen_last(engine)["max_tokens"] == 60
    ask(spending, key, max_completion_tokens=None, n=2)
    assert seen_last(engine)["max_tokens"] == 48, "the end of the budget: 96 millionths for two answers"
    assert code_of(ask(spending, key, max_tokens="100")) == "invalid_request"


def test_a_key_without_a_budget_is_left_alone(spending: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    ask(spending, new_key(spending))

    assert "max_tokens" not in seen_last(engine)


@pytest.mark.parametrize("end", ["client leaves", "engine dies", "stream breaks", "engine refuses"])
def test_no_end_of_a_request_leaks_its_reservation(spending: RunningGateway, engine: ScriptedEngine, end: str) -> None:
    key = new_key(spending, "--budget", "total=0.0001", "--concurrency", "1")

    def script(request: SeenRequest) -> list[object]:
        if end == "engine refuses":
            return whole({"error": {"message": "no", "code": 400}}, status=400)
        return [EVENTS, chunk({"content": "a"}), HANG if end == "client leaves" else CLOSE]

    engine.script = script
    if end == "engine dies":
        engine.script = lambda _: [CLOSE]
    # A client that is out of patience leaves.
    with suppress(httpx.ReadTimeout):
        ask(spending, key, max_tokens=100, stream=True, timeout=0.5 if end == "client leaves" else 30)

    engine.script = lambda _: whole(answer("hello"))
    # One token at most was used: all but one of the hundred must be there again.
    wait_until(lambda: ask(spending, key, max_tokens=99).status_code == 200, 5, "all is given back")
    assert seen_last(engine)["max_tokens"] == 99, "and the answer was not shortened to what was left"


def test_two_hundred_at_once_never_overspend(spending: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: stream(["a", "b"])
    key = new_key(spending, "--budget", "total=0.0005")

    deadline = time.monotonic() + 60

    def ask_until_final(_: int) -> httpx.Response:
        """Whom only others' reservations stand against comes back, so that a slow machine spends the budget too."""
        while True:
            answer = ask(spending, key, max_tokens=20, stream=True)
            if answer.status_code == 200 or code_of(answer) != "budget_reserved" or time.monotonic() > deadline:
                return answer

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask_until_final, range(200)))

    served = [a for a in answers if a.status_code == 200]
    refusals = {code_of(a) for a in answers if a.status_code != 200}
    assert 500 - 20 < 7 * len(served) <= 500
    assert refusals <= {"insufficient_quota", "budget_reserved"}
    assert ask(spending, key, max_tokens=(500 - 7 * len(served))).status_code == 200, "nothing is left reserved"


def test_what_was_spent_survives_a_restart(engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> None:
    engine.script = lambda _: whole(answer("hello"))
    home = tmp_path_factory.mktemp("restarted")
    first = start_gateway(home, engine.url, SIGNET_PRICES=json.dumps(PRICES))
    wait_until(lambda: answers_ok(f"{first.url}/readyz/engines"), 10, "ready", first.process)
    key = first.new_key("--budget", "month=0.00001")
    assert ask(first, key, max_tokens=7).status_code == 200
    first.process.kill()
    first.process.wait()

    again = start_gateway(home, engine.url, SIGNET_PRICES=json.dumps(PRICES))
    wait_until(lambda: answers_ok(f"{again.url}/readyz/engines"), 10, "ready", again.process)

    assert code_of(ask(again, key, max_tokens=7)) == "insufficient_quota"
    stop_gateway(again)
