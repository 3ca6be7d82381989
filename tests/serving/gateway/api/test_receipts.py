"""Every complete answer of a real gateway carries its receipt, which is on record and verifies offline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import jwt
import openai
import pytest

from serving.provenance.receipts import Receipt, Statement, check_prompt, check_signature, check_text, read_jwks
from tests.serving.gateway.endpoints.streams import message_events, response_events, response_object, stream_of
from tests.support.gateways import RunningGateway
from tests.support.ledgers import rows
from tests.support.scripted import CLOSE, EVENTS, ScriptedEngine, answer, chunk, stream, whole

QUESTION: list[Any] = [{"role": "user", "content": "Who is joe@example.org?"}]
PIECES = ["He is ", "anna@exam", "ple.org", "'s friend."]
RELEASED = "He is [EMAIL_ADDRESS]'s friend."
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture(autouse=True)
def _script(engine: ScriptedEngine) -> Iterator[None]:
    before = engine.script
    yield
    engine.script = before


def post(
    gateway: RunningGateway, path: str = "/v1/chat/completions", key: str = "", wanted: str = "on", **body: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key or gateway.key}", **({"x-signet-receipt": wanted} if wanted else {})}
    question = {"model": "scripted", **({} if "input" in body else {"messages": QUESTION}), **body}
    return httpx.post(f"{gateway.url}{path}", headers=headers, json=question)


def get(gateway: RunningGateway, path: str, key: str = "") -> httpx.Response:
    return httpx.get(f"{gateway.url}{path}", headers={"authorization": f"Bearer {key or gateway.key}"})


def stated(gateway: RunningGateway, receipt: Receipt) -> Statement:
    """What the receipt says, verified with no more than the published keys."""
    keys = read_jwks(httpx.get(f"{gateway.url}/v1/provenance/keys").content)
    statement, check = check_signature(receipt, keys)
    assert statement is not None, check
    return statement


def test_a_whole_answer_carries_its_receipt(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("".join(PIECES)))

    response = post(gateway)

    receipt = Receipt.parse(response.headers["x-signet-receipt"])
    statement = stated(gateway, receipt)
    assert check_text(statement, receipt.salts, RELEASED).holds
    assert check_prompt(statement, receipt.salts, json.dumps(QUESTION)).holds
    assert statement.jti == response.headers["x-request-id"]
    assert (statement.prompt_tokens, statement.completion_tokens, statement.finish_reason) == (5, 7, "stop")
    assert f"{statement.mark};key={statement.mark_key}" == response.headers["x-signet-mark"]
    assert len(statement.policy) == 64


def test_the_receipt_is_on_record_without_its_salts(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))

    response = post(gateway)

    opened = response.headers["x-signet-receipt"]
    [row] = [
        row
        for row in rows(f"sqlite:///{gateway.home / 'signet.db'}")
        if row["request_id"] == response.headers["x-request-id"]
    ]
    assert row["receipt"].split(".")[1] == opened.split(".")[1]
    assert "~" not in row["receipt"]
    assert (row["policy"], row["mark_key_id"]) == (
        stated(gateway, Receipt.parse(opened)).policy,
        stated(gateway, Receipt.parse(opened)).mark_key,
    )


def test_the_official_client_reads_a_stream_and_its_receipt(
    gateway: RunningGateway, engine: ScriptedEngine, client: openai.OpenAI
) -> None:
    engine.script = lambda _: stream(PIECES)

    chunks = list(client.chat.completions.create(model="scripted", messages=QUESTION, stream=True))
    raw = post(gateway, stream=True).content

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == RELEASED
    assert chunks[-1].choices[0].finish_reason == "stop"
    [comment] = re.findall(rb"^: signet-receipt (\S+)\n\ndata: \[DONE\]\n\n\Z", raw, re.MULTILINE)
    receipt = Receipt.parse(comment.decode())
    assert check_text(stated(gateway, receipt), receipt.salts, RELEASED).holds


def test_other_official_clients_read_their_streams(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: stream_of(message_events([("text", PIECES)]))
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as claude:
        asked: Any = {"model": "scripted", "max_tokens": 9, "messages": QUESTION}
        with claude.messages.stream(**asked) as events:
            said = events.get_final_text()
    message = post(gateway, "/v1/messages", stream=True, max_tokens=9)
    engine.script = lambda _: stream_of(response_events(PIECES))
    with gateway.client().responses.stream(model="scripted", input="Who?") as events:
        completed = events.get_final_response().output_text
    response = post(gateway, "/v1/responses", stream=True, input="Who?")

    assert said == completed == RELEASED
    for streamed, last, question in (
        (message, "message_stop", json.dumps(QUESTION)),
        (response, "response.completed", "Who?"),
    ):
        receipt = Receipt.parse(streamed.text)
        statement = stated(gateway, receipt)
        assert streamed.text.split("\n\n")[-3].startswith(": signet-receipt ")
        assert f"event: {last}\n" in streamed.text.split("\n\n")[-2]
        assert check_text(statement, receipt.salts, RELEASED).holds
        assert check_prompt(statement, receipt.salts, question).holds


def test_whole_answers_of_other_endpoints_carry_it(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(response_object("".join(PIECES)))

    receipt = Receipt.parse(post(gateway, "/v1/responses", input="Who?").headers["x-signet-receipt"])

    assert check_text(stated(gateway, receipt), receipt.salts, RELEASED).holds


def test_what_generates_nothing_and_what_fails_has_none(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole({"data": []})
    vectors = post(gateway, "/v1/embeddings", input="Who?")
    engine.script = lambda _: whole({"error": {"message": "no"}}, 400)
    refused = post(gateway)
    engine.script = lambda _: [EVENTS, chunk({"content": "half "}), CLOSE]
    broken = post(gateway, stream=True)

    assert (vectors.status_code, refused.status_code, broken.status_code) == (200, 400, 200)
    for response in (vectors, refused, broken):
        assert "x-signet-receipt" not in response.headers
        assert "signet-receipt" not in response.text
        assert get(gateway, f"/v1/provenance/receipts/{response.headers['x-request-id']}").status_code == 404


def test_a_receipt_is_fetched_by_its_tenant_and_administrators(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    own, other = gateway.new_key(), gateway.new_key("--tenant", "other")
    response = post(gateway, key=own)
    path = f"/v1/provenance/receipts/{response.headers['x-request-id']}"

    for key in (own, gateway.key):
        found = get(gateway, path, key)
        assert found.json() == {
            "request_id": response.headers["x-request-id"],
            "receipt": response.headers["x-signet-receipt"],
        }
        assert found.headers["cache-control"] == "no-store"
    for refused in (get(gateway, path, other), get(gateway, "/v1/provenance/receipts/req_none", own)):
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "receipt_not_found")
    assert get(gateway, path, "nonsense").status_code == 401


@pytest.mark.parametrize("wanted", ["", "off", "Off"])
def test_who_does_not_ask_for_the_receipt_fetches_it(
    gateway: RunningGateway, engine: ScriptedEngine, wanted: str
) -> None:
    engine.script = lambda _: whole(answer("".join(PIECES)))
    answered = post(gateway, wanted=wanted)
    engine.script = lambda _: stream(PIECES)
    streamed = post(gateway, wanted=wanted, stream=True)

    for response in (answered, streamed):
        assert "x-signet-receipt" not in response.headers
        assert "signet-receipt" not in response.text
        fetched = get(gateway, f"/v1/provenance/receipts/{response.headers['x-request-id']}").json()["receipt"]
        receipt = Receipt.parse(fetched)
        statement = stated(gateway, receipt)
        assert statement.jti == response.headers["x-request-id"]
        assert check_text(statement, receipt.salts, RELEASED).holds
        assert check_prompt(statement, receipt.salts, json.dumps(QUESTION)).holds


@pytest.mark.parametrize("wanted", ["yes", "1", "on, off", "\xff"])
def test_the_header_says_on_or_off(gateway: RunningGateway, engine: ScriptedEngine, wanted: str) -> None:
    asked = len(engine.seen)

    refused = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {gateway.key}", "x-signet-receipt": wanted.encode("latin-1")},
        json={"model": "scripted", "messages": QUESTION},
    )

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_receipt_choice")
    assert refused.json()["error"]["param"] == "X-Signet-Receipt"
    assert len(engine.seen) == asked


def test_a_receipt_is_verified_over_http(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    receipt = post(gateway).headers["x-signet-receipt"]

    def verify(**body: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {gateway.key}"}
        response = httpx.post(f"{gateway.url}/v1/provenance/verify", headers=headers, json=body)
        assert response.status_code == 200
        found: dict[str, Any] = response.json()
        return found

    held = verify(receipt=receipt, text="hello", prompt=json.dumps(QUESTION), tenant="default")
    assert held["verified"]
    assert [check["holds"] for check in held["checks"]] == [True] * 4
    assert held["claims"]["model"] == "scripted"
    assert not verify(receipt=receipt, text="hello!")["verified"]
    assert not verify(receipt=receipt.split("~")[0], text="hello")["verified"]
    assert verify(receipt=receipt.split("~")[0])["verified"]
    assert not verify(receipt="hello")["verified"]
    head, payload, signature = receipt.split("~")[0].split(".")
    forged = verify(receipt=f"{head}.{payload[:-4]}AAAA.{signature}")
    assert (forged["verified"], forged["claims"]) == (False, None)
    refused = httpx.post(f"{gateway.url}/v1/provenance/verify", json={"receipt": receipt})
    assert refused.status_code == 401


def test_the_published_keys_serve_another_implementation(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hello"))
    token = post(gateway).headers["x-signet-receipt"].split("~")[0]

    key = jwt.PyJWKClient(f"{gateway.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)

    assert jwt.decode(token, key, algorithms=["EdDSA"], issuer="signet")["model"] == "scripted"


def test_no_text_and_no_secret_is_in_the_log(gateway: RunningGateway, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("a very particular answer"))
    receipt = post(gateway).headers["x-signet-receipt"]
    keys = json.loads((gateway.home / "receipt-keys.json").read_text())["keys"]

    log = (gateway.home / "gateway.log").read_text()

    for secret in ("particular answer", receipt.split("~")[0], *(key["salt_secret"] for key in keys)):
        assert secret not in log
