"""Keys that change or are missing, engines that tell what they run, a ledger that refuses: gateways of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import update

from serving.database import open_engine
from serving.gateway.engines.load import parse_manifests
from serving.ledger.record import requests
from serving.provenance.receipts import (
    Receipt,
    Statement,
    are_alike,
    check_signature,
    check_text,
    read_jwks,
)
from serving.provenance.receipts.jws import b64, unb64
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.ledgers import rows
from tests.support.running import answers_ok, free_port, run_signet, signet_environment, wait_until
from tests.support.scripted import CLOSE, EVENTS, ScriptedEngine, SeenRequest, answer, head, whole
from tests.support.token_engine import TokenEngine

QUESTION = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
DIGESTS = ["sha256:" + letter * 64 for letter in "ab"]
Start = Callable[..., AbstractContextManager[RunningGateway]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @contextmanager
    def run(*engines: ScriptedEngine, **settings: str) -> Iterator[RunningGateway]:
        gateway = start_gateway(tmp_path, *(engine.url for engine in engines), **settings)
        try:
            wait_until(lambda: answers_ok(f"{gateway.url}/readyz/engines"), 10, "an engine is up", gateway.process)
            yield gateway
        finally:
            stop_gateway(gateway)

    return run


@pytest.fixture
def announcing() -> Iterator[list[ScriptedEngine]]:
    """Two engines under one name, each with a checkpoint of its own."""
    engines = [ScriptedEngine(), ScriptedEngine()]
    for engine, digest in zip(engines, DIGESTS, strict=True):
        series = f'signet_engine_manifest_info{{manifest="{digest}",model="scripted"}} 1.0\n'
        engine.fixed_paths["/metrics"] += series.encode()
    yield engines
    for engine in engines:
        engine.stop()


def ask(gateway: RunningGateway, key: str = "", wanted: str = "on", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key or gateway.key}", **({"x-signet-receipt": wanted} if wanted else {})}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json={**QUESTION, **more})


def fetch(gateway: RunningGateway, name: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.get(f"{gateway.url}/v1/provenance/receipts/{name}", headers=headers)


def stated(gateway: RunningGateway, response: httpx.Response) -> Statement:
    receipt = Receipt.parse(response.headers.get("x-signet-receipt", response.text))
    keys = read_jwks(httpx.get(f"{gateway.url}/v1/provenance/keys").content)
    statement, check = check_signature(receipt, keys)
    assert statement is not None, check
    return statement


def key_of(response: httpx.Response) -> str:
    return response.headers["x-signet-receipt"].split(".")[0]


def test_each_receipt_is_counted(engine: ScriptedEngine, start: Start) -> None:
    engine.script = lambda _: whole(answer("hello"))
    with start(engine) as gateway:
        for _ in range(2):
            assert "x-signet-receipt" in ask(gateway).headers
        metrics = httpx.get(f"{gateway.url}/metrics").text

    assert "\nsignet_receipts_total 2.0\n" in metrics


def test_a_rotation_needs_no_restart_and_old_receipts_stay_good(engine: ScriptedEngine, start: Start) -> None:
    engine.script = lambda _: whole(answer("hello"))
    with start(engine, SIGNET_RECEIPTS__ISSUER="https://signet.example.org") as gateway:
        old = ask(gateway)
        rotated = run_signet(gateway.home, "receipts", "rotate")
        assert rotated.returncode == 0, rotated.stderr
        wait_until(lambda: key_of(ask(gateway)) != key_of(old), 10, "the new key signs")

        assert stated(gateway, old).iss == "https://signet.example.org"
        listed = json.loads(run_signet(gateway.home, "receipts", "list", "--json").stdout)

    assert [key["retired_at"] is None for key in listed] == [False, True]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_any_worker_signs_what_another_recorded_and_nothing_that_was_edited(
    engine: ScriptedEngine, start: Start, url: str, workers: str
) -> None:
    engine.script = lambda _: whole(answer("hello"))
    database = open_engine(url)
    with start(engine, SIGNET_DATABASE__URL=url, SIGNET_GATEWAY__WORKERS=workers) as gateway:
        names = [ask(gateway, wanted="off").headers["x-request-id"] for _ in range(4)]
        fetched = [fetch(gateway, name) for name in names for _ in range(2)]
        assert [stated(gateway, response).jti for response in fetched] == [name for name in names for _ in range(2)]
        with database.begin() as connection:
            kept = {row["request_id"]: row["receipt"] for row in rows(url)}
            head, payload, seal = kept[names[0]].split(".")
            forged = b64(unb64(payload).replace(b'"model":"scripted"', b'"model":"expensive"'))
            for name, record in ((names[0], f"{head}.{forged}.{seal}"), (names[1], kept[names[2]])):
                connection.execute(update(requests).where(requests.c.request_id == name).values(receipt=record))
        refused = [fetch(gateway, name) for name in names[:2]]
        untouched = fetch(gateway, names[3])
    database.dispose()

    assert [response.status_code for response in refused] == [409, 409]
    assert [response.json()["error"]["code"] for response in refused] == ["receipt_record_invalid"] * 2
    assert "was changed after it was recorded" in refused[0].json()["error"]["message"]
    assert "speaks of another request" in refused[1].json()["error"]["message"]
    assert untouched.json() == fetched[-1].json()


def test_a_key_that_is_retired_before_the_receipt_is_fetched_is_named(engine: ScriptedEngine, start: Start) -> None:
    engine.script = lambda _: whole(answer("hello"))
    with start(engine) as gateway:
        asked = ask(gateway)
        run_signet(gateway.home, "receipts", "rotate")
        wait_until(lambda: key_of(ask(gateway)) != key_of(asked), 10, "the new key signs")
        fetched = fetch(gateway, asked.headers["x-request-id"])
        before, after = stated(gateway, asked), stated(gateway, fetched)

    assert after.recorded_by == json.loads(unb64(key_of(asked)))["kid"]
    assert msgspec.structs.replace(after, recorded_by="") == before


def test_tenants_and_keys_that_are_named_get_receipts_unasked(engine: ScriptedEngine, start: Start) -> None:
    engine.script = lambda _: whole(answer("hello"))
    with start(engine, SIGNET_RECEIPTS__DELIVER_TO='["acme"]') as gateway:
        of_acme = gateway.new_key(tenant="acme")
        unasked = [ask(gateway, key=key, wanted="") for key in (of_acme, gateway.key)]
        refused = ask(gateway, key=of_acme, wanted="off")

    assert ["x-signet-receipt" in response.headers for response in (*unasked, refused)] == [True, False, False]


def test_switched_off_there_are_none_and_the_pages_say_so(engine: ScriptedEngine, start: Start) -> None:
    engine.script = lambda _: whole(answer("hello"))
    with start(engine, SIGNET_RECEIPTS__ENABLED="false") as gateway:
        response = ask(gateway)
        keys = httpx.get(f"{gateway.url}/.well-known/jwks.json")
        metrics = httpx.get(f"{gateway.url}/metrics").text

    assert response.status_code == 200
    assert "\nsignet_receipts_total 0.0\n" in metrics
    assert "x-signet-receipt" not in response.headers
    assert (keys.status_code, keys.json()["error"]["code"]) == (404, "receipts_off")
    assert not (gateway.home / "receipt-keys.json").exists()


def test_keys_that_cannot_be_used_stop_the_start_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "receipt-keys.json").write_text("{}")
    (tmp_path / "receipt-keys.json").chmod(0o600)
    command = [
        sys.executable,
        "-m",
        "signet",
        "gateway",
        "--port",
        str(free_port()),
        "--engine-url",
        "http://127.0.0.1:9",
    ]

    done = subprocess.run(
        command, cwd=tmp_path, env=signet_environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert said == [
        f"Error: {tmp_path / 'receipt-keys.json'} is no file of receipt keys of format version 1 "
        "(receipts.when_unusable: run starts without receipts)"
    ]
    assert "Traceback" not in done.stderr


def test_or_it_runs_without_receipts_where_told_to(engine: ScriptedEngine, start: Start, tmp_path: Path) -> None:
    engine.script = lambda _: whole(answer("hello"))
    (tmp_path / "receipt-keys.json").write_text("{}")
    (tmp_path / "receipt-keys.json").chmod(0o600)

    with start(engine, SIGNET_RECEIPTS__WHEN_UNUSABLE="run") as gateway:
        response = ask(gateway)

    assert response.status_code == 200
    assert "x-signet-receipt" not in response.headers
    assert (gateway.home / "gateway.log").read_text().count("no receipts are signed") == 1


def test_a_receipt_that_a_client_has_is_on_record_whatever_is_killed(engine: ScriptedEngine, start: Start) -> None:
    engine.script = lambda _: whole(answer("hello"))
    with start(engine) as gateway:
        response = ask(gateway)
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(10)

    kept = {row["request_id"]: row["receipt"] for row in rows(f"sqlite:///{gateway.home / 'signet.db'}")}
    assert are_alike(kept[response.headers["x-request-id"]], response.headers["x-signet-receipt"].split("~")[0])
    verified = run_signet(gateway.home, "verify", "--request-id", response.headers["x-request-id"])
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_an_answer_that_is_not_on_record_shows_no_receipt(engine: ScriptedEngine, start: Start, more: Any) -> None:
    engine.script = lambda _: [EVENTS, *answered_stream()] if more else whole(answer("hello"))
    with start(engine, SIGNET_LEDGER__COMMIT_TIMEOUT_S="0.5", SIGNET_LEDGER__BUSY_TIMEOUT_S="0.2") as gateway:
        lock = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(gateway.home / "signet.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert lock.stdout is not None
        assert lock.stdout.readline() == b"locked\n"
        response = ask(gateway, **more)
        lock.communicate(b"\n", timeout=10)

    assert "ledger_unavailable" in response.text
    assert "receipt" not in response.text
    assert "x-signet-receipt" not in response.headers


HOLD = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


def answered_stream() -> list[bytes]:
    return TokenEngine([b"hello"]).stream("/v1/chat/completions", {"return_token_ids": False})


def test_the_engines_checkpoint_is_named_and_a_foreign_engines_is_not(
    engine: ScriptedEngine, announcing: list[ScriptedEngine], start: Start
) -> None:
    engine.script = announcing[0].script = lambda _: whole(answer("hello"))
    with start(announcing[0]) as gateway:
        assert stated(gateway, ask(gateway)).manifest == DIGESTS[0]
    with start(engine) as gateway:
        assert stated(gateway, ask(gateway)).manifest == ""


def test_a_continued_answer_names_every_checkpoint_and_hashes_all_its_text(
    announcing: list[ScriptedEngine], start: Start
) -> None:
    pieces = [b"The river", b" rose", b" at jane", b"@example.org", b" again", b"."]
    tokens, asked = TokenEngine(pieces), []

    def script(number: int) -> Callable[[SeenRequest], Iterator[object]]:
        def serve(request: SeenRequest) -> Iterator[object]:
            if request.target == "/detokenize":
                body = tokens.detokenize(request.body)
                yield head(length=len(body)) + body
                return
            asked.append(number)
            data = b"".join(tokens.stream(request.target, request.body))
            yield EVENTS
            yield data[: len(data) // 2] if len(asked) == 1 else data
            yield CLOSE

        return serve

    for number, each in enumerate(announcing):
        each.script = script(number)
    with start(*announcing) as gateway:
        response = ask(gateway, stream=True, max_tokens=100)
        statement = stated(gateway, response)

    first, second = asked
    assert first != second
    assert (statement.manifest, statement.earlier_manifests) == (DIGESTS[second], [DIGESTS[first]])
    assert statement.continued == 1
    receipt = Receipt.parse(response.text)
    assert check_text(statement, receipt.salts, "The river rose at [EMAIL_ADDRESS] again.").holds


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        (b"", {}),
        (b'signet_engine_manifest_info{manifest="' + DIGESTS[0].encode() + b'",model="m"} 1.0\n', {"m": DIGESTS[0]}),
        (b'signet_engine_manifest_info{model="m",manifest="md5:0"} 1\n', {}),
        (b'signet_engine_manifest_info{manifest="' + DIGESTS[0].encode() + b'"} 1\n', {}),
        (b'signet_engine_manifest_info{model="\xff",manifest="x"} 1\n', {}),
    ],
)
def test_only_what_is_a_digest_is_believed(metrics: bytes, found: dict[str, str]) -> None:
    assert parse_manifests(metrics) == found
