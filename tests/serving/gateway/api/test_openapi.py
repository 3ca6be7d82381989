"""The OpenAPI document: every endpoint is in it, and whatever it allows never makes the gateway fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.gateway.endpoints import ENDPOINTS
from tests.support.gateways import RunningGateway
from tests.support.scripted import ScriptedEngine, SeenRequest, answer, whole

EMPTY: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"data": []},
    "/v1/responses": {"output": []},
    "/v1/messages": {"content": []},
    "/v1/messages/count_tokens": {"input_tokens": 1},
    "/tokenize": {"tokens": []},
    "/detokenize": {"prompt": ""},
}
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"


def test_every_endpoint_is_described(gateway: RunningGateway) -> None:
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    described = document["paths"].keys()
    assert {
        *ENDPOINTS,
        "/v1/models",
        "/v1/models/{model}",
        "/healthz",
        "/readyz",
        "/readyz/engines",
        "/metrics",
        "/v1/provenance/detect",
    } <= described
    names = [method["operationId"] for methods in document["paths"].values() for method in methods.values()]
    assert len(names) == len(set(names))
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= document["components"]["schemas"].keys()


def test_statuses_are_those_that_the_errors_page_has(gateway: RunningGateway) -> None:
    page = (Path(__file__).parents[4] / "docs" / "reference" / "errors.md").read_text()
    listed = {status for cell in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for status in cell.split(", ")}

    document = httpx.get(f"{gateway.url}/openapi.json").json()

    hot = [document["paths"][path]["post"]["responses"] for path in ENDPOINTS]
    assert {status for answers in hot for status in answers} <= listed | {"200"}


def _campaign(engine: ScriptedEngine, gateway: RunningGateway, tmp_path: Path, examples: int, phases: str) -> None:
    def script(request: SeenRequest) -> list[object]:
        return whole(EMPTY.get(request.target, answer("hello")))

    engine.script = script
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--checks", CHECKS, "--max-examples", str(examples), "--phases", phases),
        *("--header", f"Authorization: Bearer {gateway.key}", "--include-path-regex", "^/(v1|tok|detok|healthz)"),
        *("--seed", "4", "--no-shrink", "--no-color", "--warnings", "off", "--suppress-health-check", "all"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 17" in done.stdout, done.stdout[-6000:]
    log = (gateway.home / "gateway.log").read_text()
    assert "unexpected failure" not in log
    assert "the application failed" not in log


def test_what_the_document_allows_fails_nothing(
    engine: ScriptedEngine, gateway: RunningGateway, tmp_path: Path
) -> None:
    _campaign(engine, gateway, tmp_path, examples=5, phases="examples,fuzzing")


@pytest.mark.faults
def test_much_of_what_the_document_allows_fails_nothing(
    engine: ScriptedEngine, gateway: RunningGateway, tmp_path: Path
) -> None:
    _campaign(engine, gateway, tmp_path, examples=300, phases="examples,coverage,fuzzing")
