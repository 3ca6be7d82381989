"""A gateway starts before its database: it says so, takes no request, and takes over when the database is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from loadtests.tools.services import Postgres
from serving.identity import Identity
from tests.support.gateways import RunningGateway, create_key, start_gateway, stop_gateway
from tests.support.ledgers import rows
from tests.support.load import QUESTION, EngineProcess, metric
from tests.support.running import answers_ok, run_signet, wait_until

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess.run() as running:
        yield running


def ask(gateway: RunningGateway) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=QUESTION, headers=headers, timeout=20)


def check_that_it_waits(gateway: RunningGateway) -> None:
    ready = httpx.get(f"{gateway.url}/readyz")
    assert (ready.status_code, ready.text) == (503, "waiting for the database: no key is known yet\n")
    answer = ask(gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "identity_unavailable")
    assert metric(gateway.url, "signet_ledger_up") == 0


def check_that_it_takes_over(gateway: RunningGateway, postgres: Postgres) -> None:
    wait_until(lambda: answers_ok(f"{gateway.url}/readyz"), 20, "the gateway is ready", gateway.process)
    wait_until(lambda: metric(gateway.url, "signet_gateway_engine_up") == 1, 10, "the engine is up")
    wait_until(lambda: metric(gateway.url, "signet_ledger_up") == 1, 10, "the ledger is up")
    answer = ask(gateway)
    assert answer.status_code == 200, answer.text
    assert [row["request_id"] for row in rows(postgres.url)] == [answer.headers["x-request-id"]]


@pytest.mark.parametrize("when_unavailable", ["refuse", "spill"])
def test_a_server_that_comes_later(
    when_unavailable: str, engine: EngineProcess, postgres: Postgres, tmp_path: Path
) -> None:
    with closing(Identity(postgres.url)) as identity:
        key = identity.create_key("acme").key
    postgres.kill()
    settings = {"SIGNET_DATABASE__URL": postgres.url, "SIGNET_LEDGER__WHEN_UNAVAILABLE": when_unavailable}
    gateway = start_gateway(tmp_path, engine.url, key=key, **settings)
    try:
        check_that_it_waits(gateway)
        assert metric(gateway.url, "signet_ledger_schema_mismatch") == 0
        postgres.start()
        check_that_it_takes_over(gateway, postgres)
    finally:
        assert stop_gateway(gateway) == 0
    log = (tmp_path / "gateway.log").read_text()
    assert "is not usable" in log
    assert "no request is taken until then" in log
    assert "Traceback" not in log
    assert "secret" not in log, "the database's password"


def test_a_database_that_is_upgraded_by_somebody_else(
    engine: EngineProcess, postgres: Postgres, tmp_path: Path
) -> None:
    """As in a cluster: gateways only look, and the upgrade is a job of its own."""
    with closing(Identity("sqlite://")) as elsewhere:
        key = elsewhere.create_key("acme").key
    settings = {"SIGNET_DATABASE__URL": postgres.url, "SIGNET_DATABASE__MIGRATE": "never"}
    gateway = start_gateway(tmp_path, engine.url, key=key, **settings)
    try:
        check_that_it_waits(gateway)
        assert metric(gateway.url, "signet_ledger_schema_mismatch") == 1
        refused = run_signet(tmp_path, "ledger", "usage", **settings)
        assert refused.returncode == 1
        assert "run 'signet ledger upgrade'" in refused.stderr
        upgraded = run_signet(tmp_path, "ledger", "upgrade", **settings)
        assert upgraded.returncode == 0, upgraded.stderr
        check_that_it_takes_over(replace(gateway, key=create_key(tmp_path, "--tenant", "acme", **settings)), postgres)
        assert metric(gateway.url, "signet_ledger_schema_mismatch") == 0
    finally:
        assert stop_gateway(gateway) == 0
    assert "run 'signet ledger upgrade'" in (tmp_path / "gateway.log").read_text()
