"""Circuits as clients meet them, through a real gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import wait_until
from tests.support.scripted import ScriptedEngine, answer, whole

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CIRCUIT = json.dumps({"consecutive_failures": 3, "backoff_s": 0.3, "max_backoff_s": 0.3})


def circuit(gateway: RunningGateway, engine: ScriptedEngine) -> float | None:
    wanted = f'signet_gateway_engine_circuit{{engine="{engine.url.removeprefix("http://")}"}} '
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return next((float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)), None)


def ask(gateway: RunningGateway) -> int:
    body = {"model": "scripted", "messages": HELLO}
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=20).status_code


def test_an_engine_that_fails_is_passed_over_tried_once_and_taken_back(tmp_path: Path) -> None:
    good, bad = ScriptedEngine(), ScriptedEngine()
    bad.script = lambda _: whole({"error": {"message": "broken"}}, status=500)
    gateway = start_gateway(tmp_path, good.url, bad.url, SIGNET_GATEWAY__CIRCUIT=CIRCUIT)
    try:
        wait_until(lambda: circuit(gateway, bad) == 0 == circuit(gateway, good), 10, "both engines are known")

        def opened() -> bool:
            # Every client has its answer meanwhile: a failure is asked again elsewhere.
            assert ask(gateway) == 200
            return circuit(gateway, bad) == 2

        wait_until(opened, 10, "the failing engine's circuit is open")
        bad.script = lambda _: whole(answer("well again"))

        def closed() -> bool:
            assert ask(gateway) == 200
            return circuit(gateway, bad) == 0

        wait_until(closed, 10, "a trial request closes it")
    finally:
        stop_gateway(gateway)
        good.stop()
        bad.stop()


def test_failing_requests_never_take_the_last_engine_away(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.script = lambda _: whole({"error": {"message": "broken"}}, status=500)
    gateway = start_gateway(tmp_path, engine.url, SIGNET_GATEWAY__CIRCUIT=CIRCUIT)
    try:
        wait_until(lambda: circuit(gateway, engine) == 0, 10, "the engine is known")
        for _ in range(4):
            assert ask(gateway) == 502
        assert circuit(gateway, engine) in (1, 2)
        engine.script = lambda _: whole(answer("hello"))
        assert ask(gateway) == 200
    finally:
        stop_gateway(gateway)
        engine.stop()


def test_engines_and_models_change_while_the_gateway_runs(tmp_path: Path) -> None:
    first, second = ScriptedEngine(), ScriptedEngine()
    file = tmp_path / "signet.yaml"

    def configure(*urls: str, **models: str) -> None:
        new = tmp_path / "new.yaml"
        new.write_text(yaml.safe_dump({"gateway": {"engine_urls": list(urls), "models": models}}))
        new.replace(file)

    configure(first.url)
    gateway = start_gateway(tmp_path, SIGNET_GATEWAY__RELOAD_INTERVAL_S="0.1")
    try:
        wait_until(lambda: circuit(gateway, first) == 0, 10, "the first engine is known")
        configure(second.url, alias="scripted")
        wait_until(lambda: circuit(gateway, second) == 0, 10, "the second engine is known")
        wait_until(lambda: circuit(gateway, first) is None, 10, "the first engine is gone")
        wait_until(lambda: ask(gateway) == 200, 10, "the second answers")
        assert len(second.seen) > 0
        listed = {model.id for model in gateway.client().models.list()}
        assert listed == {"scripted", "alias"}
    finally:
        stop_gateway(gateway)
        first.stop()
        second.stop()
