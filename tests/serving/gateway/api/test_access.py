"""Who is let in, and to what: scopes of keys, and tokens of an issuer, at a real gateway."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest

from serving.guard import EndpointName
from serving.identity import Identity
from serving.identity.principal import ENDPOINTS
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.issuer import Issuer
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine, answer, whole

HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.add_key("one")
    yield issuer
    issuer.close()


@pytest.fixture(scope="module")
def trusting(
    engine: ScriptedEngine, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """A gateway that lets the issuer's tokens in, as well as keys."""
    running = start_gateway(
        tmp_path_factory.mktemp("trusting"),
        engine.url,
        SIGNET_IDENTITY__JWT__ISSUER=issuer.url,
        SIGNET_IDENTITY__JWT__AUDIENCE='["signet"]',
        SIGNET_IDENTITY__JWT__CREATE_TENANTS="true",
        SIGNET_IDENTITY__JWT__GRANTS='{"user": {"endpoints": ["chat"]}, "ops": {"admin": true}}',
        SIGNET_IDENTITY__POLL_INTERVAL_S="0.05",
    )
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)


@pytest.fixture
def store(trusting: RunningGateway) -> Iterator[Identity]:
    """The gateway's database, opened by another process."""
    identity = Identity(f"sqlite:///{trusting.home / 'signet.db'}")
    yield identity
    identity.close()


def ask(gateway: RunningGateway, key: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    return httpx.post(f"{gateway.url}{path}", headers={"authorization": f"Bearer {key}"}, json={**HELLO, **body})


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json().get("error", {}).get("code", "")


def known(gateway: RunningGateway, key: str) -> str:
    headers = {"authorization": f"Bearer {key}"}
    wait_until(lambda: httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200, 5, "the key is known")
    return key


def test_what_a_key_can_be_restricted_to_is_what_the_gateway_answers() -> None:
    assert set(get_args(EndpointName)) <= set(ENDPOINTS)


def test_a_key_is_kept_to_its_models(trusting: RunningGateway, engine: ScriptedEngine, store: Identity) -> None:
    engine.script = lambda _: whole(answer("hi"))
    fitting = known(trusting, store.create_key("acme", models=["scr*"]).key)
    other = known(trusting, store.create_key("acme", models=["another"]).key)

    assert outcome(ask(trusting, fitting)) == (200, "")
    assert outcome(ask(trusting, other)) == (403, "model_not_allowed")
    assert outcome(ask(trusting, fitting, model="unheard")) == (403, "model_not_allowed"), (
        "tells nothing of what is served"
    )


def test_the_list_of_models_shows_what_the_key_may_use(trusting: RunningGateway, store: Identity) -> None:
    for models, shown in ((None, ["scripted"]), (["scripted"], ["scripted"]), (["another"], [])):
        key = known(trusting, store.create_key("acme", models=models).key)
        listed = httpx.get(f"{trusting.url}/v1/models", headers={"authorization": f"Bearer {key}"}).json()["data"]
        assert [card["id"] for card in listed] == shown


def test_a_key_is_kept_to_its_endpoints(trusting: RunningGateway, engine: ScriptedEngine, store: Identity) -> None:
    engine.script = lambda _: whole(answer("hi"))
    key = known(trusting, store.create_key("acme", endpoints=["chat"]).key)

    assert outcome(ask(trusting, key)) == (200, "")
    assert outcome(ask(trusting, key, "/v1/completions", prompt="x")) == (403, "endpoint_not_allowed")
    assert outcome(ask(trusting, key, "/v1/provenance/detect", text="x")) == (403, "endpoint_not_allowed")


def test_a_key_ends_on_time_and_a_rotated_one_goes_on(
    trusting: RunningGateway, engine: ScriptedEngine, store: Identity
) -> None:
    engine.script = lambda _: whole(answer("hi"))
    short = store.create_key("acme", expires_at=time.time() + 2).key
    old = store.create_key("acme")
    known(trusting, old.key)
    new = known(trusting, store.rotate_key(old.id, grace_s=60).key)

    assert outcome(ask(trusting, old.key)) == outcome(ask(trusting, new)) == (200, "")
    wait_until(lambda: outcome(ask(trusting, short)) == (401, "expired_api_key"), 5, "the key has expired")


def test_a_token_is_let_in_and_recorded_for_its_tenant(
    trusting: RunningGateway, engine: ScriptedEngine, issuer: Issuer, store: Identity
) -> None:
    engine.script = lambda _: whole(answer("hi"))
    token = issuer.token(tenant="from-token", scope="user")

    response = ask(trusting, token)

    assert response.status_code == 200
    assert outcome(ask(trusting, token, "/v1/completions", prompt="x")) == (403, "endpoint_not_allowed")
    assert "from-token" in store.tenants()
    assert "authorization" not in engine.seen[-1].headers, "the token stays here"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": 1_700_000_000}, (401, "token_expired")),
        ({"aud": "another"}, (401, "invalid_token")),
        ({"scope": "nothing"}, (403, "token_not_allowed")),
    ],
)
def test_a_token_that_does_not_hold_is_refused(
    trusting: RunningGateway, issuer: Issuer, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    token = issuer.token(**{"scope": "user", **changes})

    response = ask(trusting, token)

    assert outcome(response) == expected
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    assert token.split(".")[1] not in (trusting.home / "gateway.log").read_text()


def test_an_administrators_token_opens_the_admin_api(trusting: RunningGateway, issuer: Issuer) -> None:
    for scope, status in (("ops", 200), ("user", 403)):
        headers = {"authorization": f"Bearer {issuer.token(scope=scope)}"}
        assert httpx.get(f"{trusting.url}/admin/keys", headers=headers).status_code == status


def test_the_key_is_asked_for_before_the_body_is_read(trusting: RunningGateway) -> None:
    """A stranger's answer comes though not one byte of the body it announces was sent."""
    host, _, port = trusting.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer nobody\r\n"
            b"content-length: 1000000\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


def test_failed_authentications_are_counted(trusting: RunningGateway) -> None:
    def count() -> float:
        lines = httpx.get(f"{trusting.url}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith('signet_gateway_errors_total{code="invalid_api_key"}')]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    before = count()
    for path in ("/v1/chat/completions", "/v1/provenance/detect"):
        assert ask(trusting, "nobody", path).status_code == 401
    for path in ("/v1/models", "/admin/keys"):
        headers = {"authorization": "Bearer nobody"}
        assert httpx.get(f"{trusting.url}{path}", headers=headers).status_code == 401

    assert count() == before + 4
