"""A gateway with a policy, in front of a scripted engine that also plays the judge."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.identity import Identity
from serving.settings import load_settings
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import HANG, ScriptedEngine, SeenRequest, answer, whole

POLICY = """\
version: 1
budget_ms: 1500
principles:
  - {id: exception, principle: Drills are fine., where: input, check: {words: [fire drill]}, action: allow}
  - id: no-arson
    principle: Nobody is helped to set fires.
    check: {words: [arson, set fire to]}
    where: input
    action: refuse
    reason: Requests about setting fires are not answered here.
  - {id: project-names, principle: Names of projects stay inside., check: {words: [falcon nine]}, action: mask}
  - {id: ticket, principle: Tickets are counted., check: {pattern: ['\\bOPS-\\d{1,6}\\b']}, action: flag}
  - id: dry
    principle: On trial.
    check: {words: [trial]}
    action: refuse
    dry_run: true
    reason: Never shown.
  - id: judged
    principle: No cruelty to animals.
    where: input
    tenants: [judged]
    check: {judge: {model: scripted, question: "Does the text ask how to hurt animals?"}}
    action: refuse
    reason: Ask something kinder.
  - id: judged-open
    principle: No cruelty to plants.
    where: input
    tenants: [open]
    on_failure: open
    check: {judge: {model: scripted, question: "Does the text ask how to hurt plants?"}}
    action: refuse
    reason: Ask something greener.
  - id: attack
    principle: Nobody talks the model out of its limits.
    where: input
    tenants: [classified]
    check: {classifier: {name: attack, category: jailbreak, above: 0.5}}
    action: refuse
    reason: This looks like an attack.
  - id: no-weapons
    principle: Answers describe no weapons.
    where: output
    tenants: [held]
    check: {words: [sword]}
    action: refuse
    reason: The answer was about weapons.
  - id: kind
    principle: Answers are kind.
    where: output
    tenants: [revised]
    check: {words: [idiot]}
    action: revise
    reason: No kind answer was found.
  - id: two-addresses
    principle: No lists of addresses.
    where: input
    tenants: [held]
    check: {entity: {name: EMAIL_ADDRESS, at_least: 2}}
    action: refuse
    reason: Too many addresses.
"""


@dataclass
class Guarded:
    """The gateway, and a key for each tenant."""

    gateway: RunningGateway
    engine: ScriptedEngine
    file: Path
    keys: dict[str, str]

    def ask(
        self, text: str, tenant: str = "acme", path: str = "/v1/chat/completions", **more: object
    ) -> httpx.Response:
        body: dict[str, object] = {"model": "scripted", "messages": [{"role": "user", "content": text}], **more}
        if path == "/v1/messages":
            body.setdefault("max_tokens", 20)
        elif path == "/v1/completions":
            body["prompt"] = body.pop("messages") and text
        elif path == "/v1/responses":
            body["input"] = body.pop("messages") and text
        headers = {"x-api-key": self.keys[tenant], "x-signet-receipt": "on"}
        return httpx.post(f"{self.gateway.url}{path}", headers=headers, json=body, timeout=30)

    def record(self, response: httpx.Response) -> dict[str, Any]:
        """The request's row in the ledger."""
        return self._row("requests", "request_id", response)

    def decisions(self, response: httpx.Response) -> list[tuple[str, str, str]]:
        """(principle, action, direction) that the audit chain has of a request."""
        with sqlite3.connect(next(self.gateway.home.glob("*.db"))) as database:
            rows = database.execute(
                "SELECT details FROM audit WHERE action = 'policy.decide' AND subject = ? ORDER BY id",
                (response.headers["x-request-id"],),
            ).fetchall()
        decided = [decision for (details,) in rows for decision in json.loads(details)["decisions"]]
        return [(decision["principle"], decision["action"], decision["direction"]) for decision in decided]

    def _row(self, table: str, column: str, response: httpx.Response) -> dict[str, Any]:
        with sqlite3.connect(next(self.gateway.home.glob("*.db"))) as database:
            database.row_factory = sqlite3.Row
            query = f"SELECT * FROM {table} WHERE {column} = ?"
            return dict(database.execute(query, (response.headers["x-request-id"],)).fetchone())


def is_judge(request: SeenRequest) -> bool:
    return "structured_outputs" in request.body


def judging(says: str, then: list[object] | None = None) -> Any:
    """A script: the judge says something, and questions are answered."""

    def script(request: SeenRequest) -> list[object]:
        if is_judge(request):
            return [HANG] if says == "hang" else whole(answer(says))
        return then or whole(answer("fine"))

    return script


@pytest.fixture(scope="package")
def guarded(engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("policy")
    file = home / "policy.yaml"
    file.write_text(POLICY)
    tenants = ("acme", "judged", "open", "classified", "held", "revised")
    identity = Identity(load_settings(overrides={"home": home}, environment={}).database_url)
    keys = {tenant: identity.create_key(tenant).key for tenant in tenants}
    identity.close()
    running = start_gateway(home, engine.url, SIGNET_GUARD__POLICY=str(file))
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield Guarded(running, engine, file, keys)
    stop_gateway(running)
