"""A real gateway process in front of a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine


@pytest.fixture(scope="session")
def engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    yield scripted
    scripted.stop()


@pytest.fixture(scope="session")
def gateway(engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    running = start_gateway(tmp_path_factory.mktemp("gateway"), engine.url)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


@pytest.fixture
def client(gateway: RunningGateway) -> openai.OpenAI:
    return gateway.client()
