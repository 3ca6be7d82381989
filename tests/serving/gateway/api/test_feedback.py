"""What users say of answers, through a real gateway: kept for their tenant, joined to the version that answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.ledger.feedback import feedback
from tests.support.gateways import RunningGateway, start_gateway, stop_gateway
from tests.support.ledgers import rows
from tests.support.running import answers_ok, wait_until
from tests.support.scripted import ScriptedEngine, SeenRequest, answer, whole
from training.data.chats import read_chats
from training.data.pairs import read_preferences
from training.registry import Checkpoint, DataDigest, ManifestDraft, Registry

QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER, BETTER = "Lyon.", "Paris."


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def checkpoint(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model") / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    draft = ManifestDraft(kind="base", data=[DataDigest(name="chats", sha256="d" * 64, rows=9, role="train")])
    return Registry(home / "registry", home / "keys").register(folder, "support-bot", draft)


@pytest.fixture(scope="module")
def gateway(home: Path, checkpoint: Checkpoint) -> Iterator[RunningGateway]:
    """In front of an engine that says what it serves, and makes the answer's id as vLLM does."""

    def script(request: SeenRequest) -> list[object]:
        return whole({**answer(ANSWER), "id": f"chatcmpl-{request.headers['x-request-id']}"})

    engine = ScriptedEngine()
    engine.script = script
    announced = f'signet_engine_manifest_info{{model="scripted",manifest="{checkpoint.digest}"}} 1.0\n'
    engine.fixed_paths["/metrics"] += announced.encode()
    running = start_gateway(home, engine.url)
    wait_until(lambda: answers_ok(f"{running.url}/readyz/engines"), 10, "the gateway sees its engine", running.process)
    yield running
    stop_gateway(running)
    engine.stop()


@pytest.fixture(scope="module")
def keys(gateway: RunningGateway) -> dict[str, str]:
    """Of a tenant that keeps texts, and of one that does not."""
    made = {tenant: gateway.new_key(tenant=tenant) for tenant in ("open", "closed")}
    changed = call(gateway, "PATCH", "/admin/tenants/open", gateway.key, {"keep_feedback_text": True})
    assert changed.json()["keep_feedback_text"] is True
    return made


def call(gateway: RunningGateway, method: str, path: str, key: str, body: Any = None, **more: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", **more}
    content = json.dumps(body) if body is not None else None
    return httpx.request(method, gateway.url + path, content=content, headers=headers, timeout=30)


def ask(gateway: RunningGateway, key: str) -> httpx.Response:
    body = {"model": "scripted", "messages": QUESTION}
    response = call(gateway, "POST", "/v1/chat/completions", key, body, **{"x-signet-receipt": "on"})
    assert response.status_code == 200, response.text
    return response


def say(gateway: RunningGateway, key: str, **body: Any) -> httpx.Response:
    return call(gateway, "POST", "/v1/feedback", key, body)


def kept(gateway: RunningGateway, request_id: str) -> list[dict[str, Any]]:
    url = f"sqlite:///{gateway.home / 'signet.db'}"
    return [row for row in rows(url, feedback) if row["request_id"] == request_id]


def test_an_answer_is_rated_by_each_of_its_names(
    gateway: RunningGateway, keys: dict[str, str], checkpoint: Checkpoint
) -> None:
    for name in ("request_id", "id", "receipt"):
        answered = ask(gateway, keys["closed"])
        names = {
            "request_id": answered.headers["x-request-id"],
            "id": answered.json()["id"],
            "receipt": answered.headers["x-signet-receipt"],
        }

        said = say(gateway, keys["closed"], rating="down", **{name: names[name]})

        assert said.status_code == 200, said.text
        assert (said.json()["request_id"], said.json()["rating"]) == (names["request_id"], -1)
        [row] = kept(gateway, names["request_id"])
        assert (row["tenant"], row["model"], row["manifest"]) == ("closed", "scripted", checkpoint.digest)


def test_saying_it_again_replaces_it(gateway: RunningGateway, keys: dict[str, str]) -> None:
    request_id = ask(gateway, keys["open"]).headers["x-request-id"]
    first = say(gateway, keys["open"], request_id=request_id, rating=-0.5, reason="wrong town").json()
    again = say(gateway, keys["open"], request_id=request_id, rating=1).json()

    [row] = kept(gateway, request_id)
    assert (row["rating"], row["reason"]) == (1.0, None)
    assert first["created_at"] == again["created_at"]
    assert first["text_kept"] is True
    assert again["text_kept"] is False


def test_texts_are_kept_only_where_the_tenant_allows_it(gateway: RunningGateway, keys: dict[str, str]) -> None:
    texts = {"reason": "wrong", "correction": BETTER, "messages": QUESTION, "answer": ANSWER}
    views, stored = {}, {}
    for tenant, key in keys.items():
        request_id = ask(gateway, key).headers["x-request-id"]
        views[tenant] = say(gateway, key, request_id=request_id, rating="down", **texts).json()
        [stored[tenant]] = kept(gateway, request_id)

    assert (views["open"]["text_kept"], views["closed"]["text_kept"]) == (True, False)
    assert {name: stored["closed"][name] for name in texts} == dict.fromkeys(texts)
    assert stored["closed"]["rating"] == -1
    assert {**{name: stored["open"][name] for name in texts}, "messages": QUESTION} == texts
    assert views["open"]["verified"] is True


@pytest.mark.parametrize(
    ("wrong", "param", "message"),
    [
        (
            {"rating": 7},
            "rating",
            "rating: Input should be 'up' or 'down', or input should be less than or equal to 1.",
        ),
        ({"rating": [1]}, "rating", "rating: Input should be 'up' or 'down', or input should be a valid number."),
        ({"messages": [1]}, "messages.0", "messages.0: Input should be a valid dictionary."),
        ({"stars": 5}, "stars", "stars: Extra inputs are not permitted."),
    ],
)
def test_what_is_wrong_is_named_as_the_client_wrote_it(
    gateway: RunningGateway, keys: dict[str, str], wrong: dict[str, Any], param: str, message: str
) -> None:
    error = say(gateway, keys["open"], request_id="req_" + "0" * 24, **wrong).json()["error"]

    assert (error["param"], error["message"]) == (param, message)


def test_texts_that_are_not_the_answers_are_refused(gateway: RunningGateway, keys: dict[str, str]) -> None:
    request_id = ask(gateway, keys["open"]).headers["x-request-id"]
    for wrong in ({"answer": "something else"}, {"messages": [{"role": "user", "content": "another"}]}):
        refused = say(gateway, keys["open"], request_id=request_id, rating=1, **wrong)

        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "feedback_mismatch"
        assert refused.json()["error"]["param"] == next(iter(wrong))
    assert kept(gateway, request_id) == []


def test_a_foreign_request_is_unknown_like_any_other(gateway: RunningGateway, keys: dict[str, str]) -> None:
    answered = ask(gateway, keys["open"])
    foreign = [
        say(gateway, key, rating=1, **{name: value})
        for key in (keys["closed"], gateway.key)
        for name, value in (
            ("request_id", answered.headers["x-request-id"]),
            ("id", answered.json()["id"]),
            ("receipt", answered.headers["x-signet-receipt"]),
        )
    ]
    unknown = [
        say(gateway, keys["closed"], rating=1, request_id="req_" + "0" * 24),
        say(gateway, keys["closed"], rating=1, id="chatcmpl-of-another-house"),
    ]

    assert {(response.status_code, response.text) for response in (*foreign, *unknown)} == {(404, unknown[0].text)}
    assert unknown[0].json()["error"]["code"] == "request_not_found"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"request_id": "r"}, 400, id="says-nothing"),
        pytest.param({"rating": 1}, 400, id="of-nothing"),
        pytest.param({"request_id": "r", "id": "i", "rating": 1}, 400, id="of-two"),
        pytest.param({"request_id": "r", "rating": 1.5}, 400, id="too-good"),
        pytest.param({"request_id": "r", "rating": True}, 400, id="a-boolean"),
        pytest.param({"request_id": "r", "rating": "great"}, 400, id="a-word"),
        pytest.param({"request_id": "r", "rating": 1, "stars": 5}, 400, id="unknown-field"),
        pytest.param({"request_id": "r", "reason": "x" * 2001}, 400, id="long-reason"),
        pytest.param({"request_id": "r", "correction": "x" * 100_001}, 400, id="long-correction"),
        pytest.param({"request_id": "r", "correction": "x" * 3_000_000}, 413, id="large-body"),
        pytest.param({"request_id": "r", "reason": "a\x00b"}, 400, id="nul"),
        pytest.param({"request_id": "r", "reason": "\ud800"}, 400, id="half-a-character"),
        pytest.param({"receipt": "eyJ.x.y", "rating": 1}, 400, id="no-receipt"),
    ],
)
def test_what_cannot_be_used_is_refused(
    gateway: RunningGateway, keys: dict[str, str], body: dict[str, Any], status: int
) -> None:
    response = say(gateway, keys["open"], **body)

    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_limits_count(gateway: RunningGateway) -> None:
    key = gateway.new_key("--requests-per-minute", "2", tenant="slow")
    answers = [say(gateway, key, request_id="req_" + "0" * 24, rating=1) for _ in range(3)]

    assert [response.status_code for response in answers] == [404, 404, 429]


def test_a_key_is_needed_and_an_administrators_to_read(gateway: RunningGateway, keys: dict[str, str]) -> None:
    assert say(gateway, "sk-none", request_id="r", rating=1).status_code == 401
    for path in ("/admin/feedback", "/admin/feedback/export", "/admin/feedback/ratings"):
        assert call(gateway, "GET", path, keys["open"]).status_code == 403


def test_administrators_read_it_with_version_and_data(
    gateway: RunningGateway, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    key = gateway.new_key(tenant="pairs")
    call(gateway, "PATCH", "/admin/tenants/pairs", gateway.key, {"keep_feedback_text": True})
    corrected, liked, rated = (ask(gateway, key).headers["x-request-id"] for _ in range(3))
    say(gateway, key, request_id=corrected, rating=-1, messages=QUESTION, answer=ANSWER, correction=BETTER)
    say(gateway, key, request_id=liked, rating=1, messages=QUESTION, answer=ANSWER)
    say(gateway, key, request_id=rated, rating=0)

    def get(path: str, **parameters: str) -> httpx.Response:
        query = "&".join(f"{name}={value}" for name, value in {"tenant": "pairs", **parameters}.items())
        return call(gateway, "GET", f"/admin/feedback{path}?{query}", gateway.key)

    page = get("", limit="2").json()
    assert [row["request_id"] for row in page["data"]] == [rated, liked]
    [last] = get("", before=str(page["next"])).json()["data"]
    assert (last["checkpoint"], last["manifest"], last["data"][0]["name"]) == (
        "support-bot@1", checkpoint.digest, "chats",
    )  # fmt: skip
    assert get("/ratings").json()["data"] == [
        {"model": "scripted", "manifest": checkpoint.digest, "checkpoint": "support-bot@1", "ratings": 3, "mean": 0.0}
    ]
    lines = {shape: get("/export", **{"as": shape}).text for shape in ("rows", "dpo", "sft")}
    assert [json.loads(line)["request_id"] for line in lines["rows"].splitlines()] == [corrected, liked, rated]
    for shape, text in lines.items():
        (tmp_path / f"{shape}.jsonl").write_text(text)
    [pair] = read_preferences(tmp_path / "dpo.jsonl").items
    chats = read_chats(tmp_path / "sft.jsonl").items
    assert [side.messages[-1].content for side in (pair.chosen, pair.rejected)] == [BETTER, ANSWER]
    assert [chat.messages[-1].content for chat in chats] == [BETTER, ANSWER]


def test_ratings_are_counted_by_model_and_checkpoint(
    gateway: RunningGateway, keys: dict[str, str], checkpoint: Checkpoint
) -> None:
    def counted(rating: str) -> float:
        wanted = {"model": "scripted", "manifest": checkpoint.digest[:19], "rating": rating}
        families = text_string_to_metric_families(httpx.get(f"{gateway.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in samples if sample.labels == wanted)

    before = counted("up"), counted("down")
    for rating in ("up", 0.5, "down"):
        say(gateway, keys["open"], request_id=ask(gateway, keys["open"]).headers["x-request-id"], rating=rating)

    assert (counted("up"), counted("down")) == (before[0] + 2, before[1] + 1)
