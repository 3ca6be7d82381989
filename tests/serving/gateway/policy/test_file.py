"""The policy file of a running gateway: followed, refused when it is bad, and errors in place of answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, run_signet, wait_until
from tests.support.scripted import ScriptedEngine, answer, whole

REFUSING = """\
version: 1
refusal: error
principles:
  - id: no-{word}
    principle: Not this.
    check: {{words: [{word}]}}
    action: refuse
    reason: "This house does not speak of it."
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("policy") / "policy.yaml"
    made.write_text(REFUSING.format(word="arson"))
    return made


@pytest.fixture(scope="module")
def gateway(engine: ScriptedEngine, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = start_gateway(tmp_path_factory.mktemp("gateway"), engine.url, SIGNET_GUARD__POLICY=str(file))
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


def ask(gateway: RunningGateway, text: str, **more: object) -> httpx.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json=body, timeout=20)


@pytest.mark.parametrize("streams", [False, True])
def test_refusals_can_be_errors(engine: ScriptedEngine, gateway: RunningGateway, streams: bool):
    engine.script = lambda _: whole(answer("all about arson"))
    for refused in (ask(gateway, "arson", stream=streams), ask(gateway, "hello")):
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["code"], error["message"]) == ("policy_refused", "This house does not speak of it.")
        assert refused.headers["x-signet-policy"] == "refuse;principle=no-arson"


def test_the_file_is_followed_and_a_bad_one_changes_nothing(
    engine: ScriptedEngine, gateway: RunningGateway, file: Path
):
    engine.script = lambda _: whole(answer("fine"))
    file.write_text(REFUSING.format(word="treason"))
    wait_until(lambda: ask(gateway, "treason").status_code == 400, 10, "the new file is in force")
    assert ask(gateway, "arson").status_code == 200

    file.write_text(REFUSING.format(word="arson").replace("action", "acton"))
    log = gateway.home / "gateway.log"
    wait_until(lambda: "policy not read again" in log.read_text(), 10, "the bad file is logged")
    assert f"{file}:7: principles.0.acton: there is no such key." in log.read_text()
    assert ask(gateway, "treason").status_code == 400
    file.write_text(REFUSING.format(word="arson"))
    wait_until(lambda: ask(gateway, "arson").status_code == 400, 10, "the first file is in force again")


def test_a_gateway_does_not_start_with_a_bad_file(tmp_path: Path):
    bad = tmp_path / "policy.yaml"
    bad.write_text("version: 1\nprinciples: [{id: X}]\n")
    started = run_signet(
        tmp_path, "gateway", "--port", "0", "--engine-url", "http://127.0.0.1:1", SIGNET_GUARD__POLICY=str(bad)
    )

    assert started.returncode == 1
    said = started.stderr.splitlines()[-1]
    assert said.startswith(f"Error: {bad}:2: principles.0.id: an id is small letters")
    assert "3 more mistakes" in said
