"""Judges and revisions by the real engine: the mechanism, whatever so small a model thinks."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engine_client import ENGINE_KEY
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until

pytestmark = pytest.mark.engine

MODEL = "smollm2-135m-instruct"
POLICY = """\
version: 1
budget_ms: 60000
revise_budget_ms: 300
principles:
  - id: capitals
    principle: Nobody asks about capitals.
    where: input
    check: {judge: {question: "Is the text about a city?"}}
    action: refuse
    dry_run: true
    reason: Never shown.
  - id: no-tales
    principle: Nobody is told a tale.
    where: output
    check: {pattern: ['\\b\\w+ \\w+ \\w+ \\w+ \\w+\\b']}
    action: revise
    reason: Tales are told elsewhere.
"""


@pytest.fixture(scope="module")
def gateway(engine_url: str, keyring_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("judged")
    shutil.copy(keyring_path, home / "keyring.json")
    (home / "policy.yaml").write_text(POLICY)
    settings = {
        "SIGNET_GUARD__POLICY": str(home / "policy.yaml"),
        "SIGNET_GATEWAY__ENGINE_API_KEY": ENGINE_KEY,
    }
    running = start_gateway(home, engine_url, **settings)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the engine is up", running.process)
    yield running
    stop_gateway(running)


def ask(gateway: RunningGateway, text: str, max_tokens: int) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
    headers = {"authorization": f"Bearer {gateway.key}"}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json=body, timeout=60)
    assert response.status_code == 200, response.text
    about = {name: response.headers[name] for name in ("x-request-id", "x-signet-mark")}
    read: dict[str, Any] = response.json() | about
    return read


def metrics(url: str, *names: str) -> dict[str, float]:
    """The samples of these names, each by its name and labels."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(names)}


def billed(home: Path, request_id: str) -> tuple[int, int]:
    with sqlite3.connect(next(home.glob("*.db"))) as database:
        query = "SELECT prompt_tokens, completion_tokens FROM requests WHERE request_id = ?"
        row: tuple[int, int] = database.execute(query, (request_id,)).fetchone()
    return row


def test_a_judge_answers_yes_or_no_and_nobody_is_billed_for_it(gateway: RunningGateway) -> None:
    answer = ask(gateway, "What is the capital of Portugal?", 2)
    assert "key=" in answer["x-signet-mark"]

    counted = metrics(gateway.url, "signet_policy_decisions_total", "signet_policy_tokens_total")
    assert not [name for name in counted if 'action="failed"' in name and counted[name]]
    assert metrics(gateway.url, 'signet_policy_check_seconds_count{kind="judge"}').popitem()[1] == 1
    tokens = {re.findall(r'"(\w+)"', name)[0]: value for name, value in counted.items() if "tokens" in name}
    assert tokens["prompt"] > 40  # the rule, the fences and the question
    assert 1 <= tokens["completion"] <= 8
    usage = answer["usage"]
    assert billed(gateway.home, answer["x-request-id"]) == (usage["prompt_tokens"], usage["completion_tokens"])


def test_a_revision_that_takes_too_long_is_refused_and_ended(gateway: RunningGateway, engine_url: str) -> None:
    answer = ask(gateway, "Tell me a long story about a lighthouse.", 16)

    assert answer["choices"][0]["message"]["content"] == "Tales are told elsewhere."
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["x-signet-mark"] == "off;reason=policy"
    wait_until(
        lambda: sum(metrics(engine_url, "vllm:num_requests_running").values()) == 0,
        10,
        "the engine has stopped writing",
    )
