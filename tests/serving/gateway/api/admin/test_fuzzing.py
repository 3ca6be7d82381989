"""The admin API answers whatever its OpenAPI document allows, and more, without a fault of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.tools.services import Postgres
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine

REPOSITORY = Path(__file__).parents[5]
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres.run() as server:
        yield server


def fuzz(gateway: RunningGateway, folder: Path, examples: int, phases: str) -> None:
    """Fails where an answer is a 5xx, or of another shape than the document says, or a stack trace is logged."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    listed = httpx.get(f"{gateway.url}/admin/keys", headers=headers).text
    [own] = re.findall(r'"id": ?"(key_\w+)"', listed)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--checks", CHECKS, "--max-examples", str(examples), "--phases", phases),
        *("--header", f"Authorization: Bearer {gateway.key}", "--include-path-regex", "^/admin"),
        *("--request-timeout", "60"),
        *("--seed", "4", "--no-shrink", "--no-color", "--suppress-health-check", "all"),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "SCHEMATHESIS_HOOKS": "tests.support.fuzzing_hooks",
        "FUZZING_SPARES": f"{own},default",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    said = done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, said
    assert re.search(r"Operations: +27 selected", done.stdout), said
    # Nothing was learnt about an operation that only ever refused the key.
    assert "returned only 401/403" not in done.stdout, said
    assert httpx.get(f"{gateway.url}/admin/tenants", headers=headers).status_code == 200
    assert httpx.post(f"{gateway.url}/admin/audit/verify", headers=headers, timeout=60).json()["holds"]
    log = (gateway.home / "gateway.log").read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log


def run(engine: ScriptedEngine, folder: Path, examples: int, phases: str = "coverage,fuzzing", **settings: str) -> None:
    gateway = start_gateway(folder, engine.url, **settings)
    try:
        wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "the engine is up", gateway.process)
        fuzz(gateway, folder, examples, phases)
    finally:
        stop_gateway(gateway)


def test_what_the_document_allows_is_no_fault(engine: ScriptedEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, 3, "fuzzing")


@pytest.mark.faults
def test_much_of_it_is_no_fault_with_sqlite(engine: ScriptedEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, 150)


@pytest.mark.faults
@pytest.mark.services
def test_much_of_it_is_no_fault_with_postgresql(engine: ScriptedEngine, postgres: Postgres, tmp_path: Path) -> None:
    run(engine, tmp_path, 150, SIGNET_DATABASE__URL=postgres.url)
