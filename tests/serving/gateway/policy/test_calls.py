"""Checks and the fair queue: nothing is spent on what it refuses, and judges wait in it like everyone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving.gateway.policy.conftest import is_judge
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine, SeenRequest, answer, stream, whole

POLICY = """\
version: 1
budget_ms: 5000
principles:
  - id: asked
    principle: No cruelty to animals.
    where: input
    tenants: [asked]
    check: {judge: {model: scripted, question: "Does the text ask how to hurt animals?"}}
    action: refuse
    reason: Ask something kinder.
  - id: attack
    principle: Nobody talks the model out of its limits.
    where: input
    tenants: [asked]
    check: {classifier: {name: attack, category: jailbreak, above: 0.5}}
    action: flag
  - id: answered
    principle: Answers hurt nobody.
    where: output
    tenants: [answered]
    check: {judge: {model: scripted, question: "Does the text hurt somebody?"}}
    action: refuse
    reason: The answer was unkind.
  - id: answered-too
    principle: Answers are polite.
    where: output
    tenants: [answered]
    check: {judge: {model: scripted, question: "Is the text impolite?"}}
    action: refuse
    reason: The answer was impolite.
  - id: elsewhere
    principle: Answers are true.
    where: output
    tenants: [elsewhere]
    check: {judge: {model: other, question: "Is the text untrue?"}}
    action: refuse
    reason: The answer was untrue.
"""


class Narrow:
    """A gateway with a policy that lets one answer at a time run on each engine, and two of a tenant wait."""

    def __init__(self, home: Path) -> None:
        self.engine = ScriptedEngine()
        self.other = ScriptedEngine()
        self.other.fixed_paths["/v1/models"] = json.dumps({"data": [{"id": "other", "object": "model"}]}).encode()
        (home / "policy.yaml").write_text(POLICY)
        self.gateway: RunningGateway = start_gateway(
            home,
            self.engine.url,
            self.other.url,
            SIGNET_GATEWAY__ADMISSION='{"adaptive": false, "concurrency": 1, "max_queued_per_tenant": 2}',
            SIGNET_GUARD__POLICY=str(home / "policy.yaml"),
        )
        ready = f"{self.gateway.url}/readyz/engines"
        wait_until(lambda: answers_ok(ready), 10, "the gateway sees its engine", self.gateway.process)
        wait_until(lambda: len(self.models()) == 2, 10, "both engines are known")
        tenants = ("asked", "answered", "elsewhere", "idle")
        self.keys = {tenant: self.gateway.new_key("--tenant", tenant) for tenant in tenants}
        self.threads = ThreadPoolExecutor(8)

    def models(self) -> list[object]:
        headers = {"x-api-key": self.gateway.key}
        return list(httpx.get(f"{self.gateway.url}/v1/models", headers=headers).json()["data"])

    def ask(self, tenant: str, **more: object) -> httpx.Response:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], **more}
        headers = {"x-api-key": self.keys[tenant]}
        return httpx.post(f"{self.gateway.url}/v1/chat/completions", headers=headers, json=body, timeout=20)

    def begin(self, tenant: str, **more: object) -> Future[httpx.Response]:
        return self.threads.submit(self.ask, tenant, **more)

    def metric(self, beginning: str) -> float:
        lines = httpx.get(f"{self.gateway.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(beginning))

    def num_waiting(self) -> float:
        return self.metric("signet_gateway_queue_waiting{")

    def stop(self) -> None:
        self.threads.shutdown()
        stop_gateway(self.gateway)
        self.engine.stop()
        self.other.stop()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Narrow]:
    running = Narrow(tmp_path_factory.mktemp("narrow"))
    yield running
    wait_until(lambda: running.metric("signet_gateway_queue_running{") == 0, 5, "nothing runs")
    running.stop()


class Held:
    """A script whose answers wait until they may go; the judge says no at once, or waits too."""

    def __init__(self, judge_waits: bool = False) -> None:
        self.judge_waits = judge_waits
        self.may_go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, request: SeenRequest) -> Iterator[object]:
        by_judge = is_judge(request)
        self.asked.append("judge" if by_judge else "question")
        while not self.may_go.is_set() and (self.judge_waits or not by_judge):
            yield 0.01
        yield from whole(answer("no" if by_judge else "fine"))


def test_what_the_queue_refuses_is_neither_classified_nor_judged(narrow: Narrow) -> None:
    held = narrow.engine.script = Held()
    classified = 'signet_policy_check_seconds_count{kind="classifier"'
    first = narrow.begin("idle")
    wait_until(lambda: held.asked == ["question"], 5, "the engine is busy")
    waiting = [narrow.begin("idle") for _ in range(2)]
    wait_until(lambda: narrow.num_waiting() == 2, 5, "two wait")
    judged = [narrow.begin("asked") for _ in range(2)]
    wait_until(lambda: narrow.num_waiting() == 4, 5, "the questions of two judges wait behind them")
    wait_until(lambda: narrow.metric(classified) == 2, 5, "they are classified meanwhile")

    refused = narrow.ask("asked")

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert narrow.metric(classified) == 2
    assert held.asked == ["question"], "judges take no place beside the queue"
    held.may_go.set()
    assert [question.result(10).status_code for question in (first, *waiting, *judged)] == [200] * 5
    assert held.asked.count("judge") == 2


def test_a_judges_question_holds_the_engines_place(narrow: Narrow) -> None:
    held = narrow.engine.script = Held(judge_waits=True)
    judged = narrow.begin("asked")
    wait_until(lambda: held.asked == ["judge"], 5, "the judge is asked")
    other = narrow.begin("idle")
    wait_until(lambda: narrow.num_waiting() == 1, 5, "the other waits")
    assert held.asked == ["judge"]
    held.may_go.set()
    assert [question.result(10).status_code for question in (judged, other)] == [200, 200]
    assert sorted(held.asked) == ["judge", "question", "question"]


@pytest.mark.parametrize("streams", [False, True])
def test_judges_of_an_answer_use_its_place_one_after_the_other(narrow: Narrow, streams: bool) -> None:
    running: list[str] = []
    most: list[int] = []

    def script(request: SeenRequest) -> Iterator[object]:
        running.append("judge" if is_judge(request) else "question")
        most.append(len(running))
        yield 0.1
        yield from whole(answer("no")) if is_judge(request) else stream(["fine"]) if streams else whole(answer("fine"))
        running.pop()

    narrow.engine.script = script
    questions = [narrow.begin("answered", stream=streams) for _ in range(3)]
    assert [question.result(10).status_code for question in questions] == [200, 200, 200]
    assert (len(most), max(most)) == (9, 1), "two judges for each answer, and never two at a time"


def test_the_place_is_given_back_where_the_judge_is_elsewhere(narrow: Narrow) -> None:
    held = narrow.other.script = Held(judge_waits=True)
    narrow.engine.script = lambda _: whole(answer("fine"))
    judged = narrow.begin("elsewhere")
    wait_until(lambda: held.asked == ["judge"], 5, "the judge is asked")
    assert narrow.ask("idle").status_code == 200
    held.may_go.set()
    assert judged.result(10).status_code == 200
