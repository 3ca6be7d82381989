"""The admin API of a real gateway: tenants, keys, budgets and engines, by an administrator and by nobody else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.support.gateways import RunningGateway
from tests.support.running import wait_until
from tests.support.scripted import ScriptedEngine, answer, whole


class Admin:
    """Calls the API with an administrator's key."""

    def __init__(self, gateway: RunningGateway, key: str) -> None:
        self._url = f"{gateway.url}/admin"
        self._key = key

    def __call__(self, method: str, path: str, json: Any = None, status: int = 200, **headers: str) -> Any:
        self.last = self._request(method, path, json, headers)
        assert self.last.status_code == status, self.last.text
        return self.last.json()

    def refused(self, method: str, path: str, json: Any = None, **headers: str) -> tuple[int, str]:
        response = self._request(method, path, json, headers)
        return response.status_code, response.json()["error"]["code"]

    def _request(self, method: str, path: str, json: Any, headers: dict[str, str]) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(
            method,
            self._url + path,
            json=json,
            headers={"authorization": f"Bearer {self._key}", **named},
            timeout=60,  # verifying starts a process
        )


@pytest.fixture
def admin(gateway: RunningGateway) -> Admin:
    return Admin(gateway, gateway.key)


@pytest.fixture(scope="module")
def plain_key(gateway: RunningGateway) -> str:
    """The key of somebody who is no administrator."""
    return gateway.new_key()


def works(gateway: RunningGateway, key: str) -> bool:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200


def test_a_key_is_made_shown_changed_and_revoked(gateway: RunningGateway, admin: Admin) -> None:
    settings = {
        "name": "ci",
        "models": ["llama-*"],
        "endpoints": ["chat"],
        "concurrency": 3,
        "expires_at": "2090-01-01T00:00:00Z",
        "mark": "off",
    }
    made = admin("POST", "/keys", {"tenant": "shop", **settings}, 201)
    assert set(made) == {"id", "key", "tenant"}
    assert admin.last.headers["cache-control"] == "no-store"
    assert works(gateway, made["key"])

    shown = admin("GET", f"/keys/{made['id']}")
    assert {name: shown[name] for name in settings} == settings
    assert (shown["state"], shown["version"], shown["hint"]) == ("valid", 1, made["key"][-4:])
    assert made["key"] not in json.dumps(shown)

    changed = admin("PATCH", f"/keys/{made['id']}", {"models": None, "note": "nightly"})
    assert (changed["models"], changed["note"], changed["name"], changed["concurrency"]) == (None, "nightly", "ci", 3)

    for _ in range(2):
        assert admin("POST", f"/keys/{made['id']}/revoke")["state"] == "revoked"
    assert not works(gateway, made["key"])


def test_a_key_is_rotated_with_a_grace(gateway: RunningGateway, admin: Admin) -> None:
    made = admin("POST", "/keys", {"tenant": "shop"}, 201)
    rotated = admin("POST", f"/keys/{made['id']}/rotate", {"grace_s": 60}, if_match='"1"')

    assert rotated["id"] == made["id"]
    assert works(gateway, made["key"])
    assert works(gateway, rotated["key"])
    assert admin.refused("POST", f"/keys/{made['id']}/rotate", {}, if_match='"1"') == (412, "version_conflict")


def test_a_repeated_request_makes_no_second_key(admin: Admin) -> None:
    first = admin("POST", "/keys", {"tenant": "repeats"}, 201, idempotency_key="deploy-1")

    repeated = admin("POST", "/keys", {"tenant": "repeats"}, 409, idempotency_key="deploy-1")

    assert repeated["error"]["code"] == "already_exists"
    assert first["id"] in repeated["error"]["message"]
    assert [key["id"] for key in admin("GET", "/keys?tenant=repeats")["data"]] == [first["id"]]


def test_a_tenant_is_made_changed_and_suspended(gateway: RunningGateway, admin: Admin) -> None:
    admin("POST", "/tenants", {"name": "lab", "weight": 2.0, "tokens_per_minute": 1000}, 201)
    assert admin.refused("POST", "/tenants", {"name": "lab"}) == (409, "already_exists")
    key = admin("POST", "/keys", {"tenant": "lab"}, 201)["key"]

    changed = admin("PATCH", "/tenants/lab", {"suspended": True, "priority": 5})
    assert (changed["weight"], changed["priority"], changed["tokens_per_minute"]) == (2.0, 5, 1000)
    assert changed["suspended_at"] is not None
    assert not works(gateway, key)

    assert admin("PATCH", "/tenants/lab", {"suspended": False})["suspended_at"] is None
    assert works(gateway, key)


def test_of_two_administrators_the_second_does_not_overwrite_the_first(admin: Admin) -> None:
    admin("POST", "/tenants", {"name": "shared"}, 201)
    admin("GET", "/tenants/shared")
    seen = admin.last.headers["etag"]

    admin("PATCH", "/tenants/shared", {"weight": 2.0}, if_match=seen)

    assert admin.refused("PATCH", "/tenants/shared", {"weight": 3.0}, if_match=seen) == (412, "version_conflict")
    assert admin("PATCH", "/tenants/shared", {"note": "n"}, if_match=admin.last.headers["etag"])["weight"] == 2.0
    assert admin.refused("PATCH", "/tenants/shared", {"note": "n"}, if_match="three") == (400, "invalid_request")


@pytest.mark.parametrize("owner", ["tenants", "keys"])
def test_budgets_are_decimal_dollars(admin: Admin, owner: str) -> None:
    made = admin("POST", "/keys", {"tenant": "payer"}, 201)
    path = "/tenants/payer" if owner == "tenants" else f"/keys/{made['id']}"

    admin("PUT", f"{path}/budgets/month", {"amount_usd": "12.5"})
    shown = admin("PUT", f"{path}/budgets/day", {"amount_usd": "0.000000001"})
    assert shown["budgets_usd"] == {"month": "12.50", "day": "0.000000001"}
    shown = admin("DELETE", f"{path}/budgets/day")
    assert shown["budgets_usd"] == {"month": "12.50"}

    for amount in ("-1", "NaN", "1e99", "0.0000000001", "much", None):
        assert admin.refused("PUT", f"{path}/budgets/day", {"amount_usd": amount})[0] == 400
    assert admin.refused("PUT", f"{path}/budgets/week", {"amount_usd": "1"})[0] == 400


def test_every_change_is_in_the_audit_chain(gateway: RunningGateway, admin: Admin) -> None:
    made = admin("POST", "/keys", {"tenant": "audited", "expires_at": "2090-01-01T00:00:00Z"}, 201)
    admin("PATCH", f"/keys/{made['id']}", {"note": "n"})
    new = admin("POST", f"/keys/{made['id']}/rotate", {"grace_s": 1})
    admin("PUT", f"/keys/{made['id']}/budgets/day", {"amount_usd": "1.5"})
    admin.refused("PATCH", f"/keys/{made['id']}", {"note": "m"}, if_match='"1"')
    admin("POST", f"/keys/{made['id']}/revoke")

    with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
        written = database.execute(
            "select actor, action, details from audit where subject = ? order by id", (made["id"],)
        )
        rows = [(actor, action, json.loads(details)) for actor, action, details in written]
        everything = str(database.execute("select * from audit").fetchall())

    assert [(action, details) for _, action, details in rows] == [
        ("key.create", {"tenant": "audited", "expires_at": "2090-01-01T00:00:00Z"}),
        ("key.update", {"note": "n"}),
        ("key.rotate", {"grace_s": 1.0}),
        ("key.budget", {"period": "day", "amount_usd": "1.5"}),
        ("key.update", {"note": "m"}),
        ("key.update.failed", {"reason": rows[5][2]["reason"]}),
        ("key.revoke", {}),
    ]
    assert {actor for actor, _, _ in rows} == {rows[0][0]}
    assert rows[0][0].startswith("key_")
    for secret in (made["key"], new["key"]):
        assert secret.removeprefix("sk-signet-") not in everything


def test_lists_come_in_pages(admin: Admin) -> None:
    made = [admin("POST", "/keys", {"tenant": "pages"}, 201)["id"] for _ in range(5)]
    found: list[str] = []
    after = ""
    while after is not None:
        page = admin("GET", f"/keys?tenant=pages&limit=2{after and '&after=' + after}")
        found += [key["id"] for key in page["data"]]
        after = page["next"]
    assert found == made

    first = admin("GET", "/tenants?limit=1")
    second = admin("GET", f"/tenants?limit=1&after={first['next']}")
    assert first["data"][0]["name"] < second["data"][0]["name"]


def test_an_engine_is_drained_and_taken_back(gateway: RunningGateway, admin: Admin, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hi"))
    [listed] = admin("GET", "/engines")["data"]
    assert (listed["up"], listed["draining"], listed["models"], listed["circuit"]) == (
        True,
        False,
        ["scripted"],
        "closed",
    )

    def ask() -> int:
        return httpx.post(
            f"{gateway.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {gateway.key}"},
            json={"model": "scripted", "messages": [{"role": "user", "content": "hello"}]},
        ).status_code

    try:
        drained = admin("POST", f"/engines/{listed['name']}/drain")
        assert (drained["draining"], drained["drained_by_admin"]) == (True, True)
        assert ask() == 503
    finally:
        assert admin("POST", f"/engines/{listed['name']}/undrain")["draining"] is False
    assert ask() == 200
    assert admin.refused("POST", "/engines/nowhere:1/drain") == (404, "not_found")


def test_an_engine_drained_by_another_gateway_is_drained_here(gateway: RunningGateway, admin: Admin) -> None:
    [listed] = admin("GET", "/engines")["data"]
    with closing(sqlite3.connect(gateway.home / "signet.db", isolation_level=None)) as database:
        database.execute("insert into drained_engines values (?, 0)", (listed["name"],))
        database.execute("update identity_revision set revision = revision + 1")
        wait_until(lambda: admin("GET", "/engines")["data"][0]["draining"], 5, "the engine drains")
        database.execute("delete from drained_engines")
        database.execute("update identity_revision set revision = revision + 1")
        wait_until(lambda: not admin("GET", "/engines")["data"][0]["draining"], 5, "the engine is back")


def test_usage_is_summed_up_as_asked_for(gateway: RunningGateway, admin: Admin, engine: ScriptedEngine) -> None:
    engine.script = lambda _: whole(answer("hi"))
    made = [admin("POST", "/keys", {"tenant": "spender"}, 201) for _ in range(2)]
    for key in (made[0], made[0], made[1]):
        response = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key['key']}"},
            json={"model": "scripted", "messages": [{"role": "user", "content": "hello"}]},
        )
        assert response.status_code == 200

    [row] = admin("GET", "/usage?tenant=spender")["data"]
    assert row == {
        "tenant": "spender",
        "requests": 3,
        "prompt_tokens": 15,
        "completion_tokens": 21,
        "cost_usd": "0.00",
    }
    rows = admin("GET", "/usage?tenant=spender&by=key&by=model&by=day")["data"]
    assert {row["key"]: (row["requests"], row["model"]) for row in rows} == {
        made[0]["id"]: (2, "scripted"),
        made[1]["id"]: (1, "scripted"),
    }
    assert "tenant" not in rows[0]
    assert admin("GET", "/usage?tenant=spender&until=2020-01-01T00:00:00Z")["data"] == []
    assert admin.refused("GET", "/usage?by=moon")[0] == 400


def test_the_audit_chain_is_listed_and_verified(gateway: RunningGateway, admin: Admin) -> None:
    made = admin("POST", "/keys", {"tenant": "listed"}, 201)
    for number in range(3):
        admin("PATCH", f"/keys/{made['id']}", {"note": str(number)})

    first = admin("GET", f"/audit?subject={made['id']}&limit=3")
    rest = admin("GET", f"/audit?subject={made['id']}&limit=3&before={first['next']}")
    found = [(row["action"], row["details"]) for row in first["data"] + rest["data"]]
    assert found == [*(("key.update", {"note": str(n)}) for n in (2, 1, 0)), ("key.create", {"tenant": "listed"})]
    assert rest["next"] is None

    report = admin("POST", "/audit/verify")
    assert (report["holds"], report["findings"]) == (True, [])
    assert report["audits"] >= 4


def test_requests_are_held_against_their_receipts_and_noted_anchors(
    gateway: RunningGateway, admin: Admin, engine: ScriptedEngine
) -> None:
    engine.script = lambda _: whole(answer("hi"))
    create = gateway.client().chat.completions.with_raw_response.create
    name = create(model="scripted", messages=[{"role": "user", "content": "x"}]).headers["x-request-id"]
    assert admin("POST", "/audit/verify")["receipts"] >= 1
    with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
        [(chain, seq, tokens)] = database.execute(
            "select name, r.seq, completion_tokens from requests r join chains c on c.id = chain where request_id = ?",
            (name,),
        ).fetchall()
        database.execute("update requests set completion_tokens = 1 where request_id = ?", (name,))
        database.commit()
    noted = {"anchors": [f"{chain}:{seq}:{'00' * 32}"]}
    try:
        report = admin("POST", "/audit/verify", noted)
    finally:
        with closing(sqlite3.connect(gateway.home / "signet.db")) as database:
            database.execute("update requests set completion_tokens = ? where request_id = ?", (tokens, name))
            database.commit()

    assert (report["holds"], report["expected"]) == (False, 1)
    assert f"request {name} says otherwise than its receipt: completion_tokens" in report["findings"]
    assert f"{chain}: record {seq} is not the one that the given anchor names" in report["findings"]
    assert admin.refused("POST", "/audit/verify", {"anchors": ["nonsense"]}) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/usage"),
        ("GET", "/audit"),
        ("POST", "/audit/verify"),
        ("POST", "/reload"),
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("PATCH", "/keys/key_x"),
        ("POST", "/keys/key_x/rotate"),
        ("POST", "/keys/key_x/revoke"),
        ("PUT", "/keys/key_x/budgets/day"),
        ("GET", "/tenants"),
        ("PATCH", "/tenants/acme"),
        ("GET", "/engines"),
        ("POST", "/engines/e/drain"),
    ],
)
def test_administrators_only(gateway: RunningGateway, plain_key: str, method: str, path: str) -> None:
    assert Admin(gateway, plain_key).refused(method, path, {}) == (403, "admin_only")
    assert Admin(gateway, "sk-signet-nobody").refused(method, path, {}) == (401, "invalid_api_key")
    response = httpx.request(method, f"{gateway.url}/admin{path}")
    assert response.json()["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/keys/key_nope", None, (404, "not_found")),
        ("GET", "/tenants/nope", None, (404, "not_found")),
        ("GET", "/keys/%00", None, (400, "malformed_path")),
        ("PATCH", "/tenants/a%00", {"note": "x"}, (400, "malformed_path")),
        ("GET", "/keys?tenant=%00", None, (400, "invalid_request")),
        ("GET", "/audit?subject=%ff", None, (400, "invalid_request")),
        ("POST", "/engines/%F0%9F%98%80/drain", None, (400, "invalid_request")),
        ("GET", "/keys?after=key_nope", None, (404, "not_found")),
        ("GET", "/keys?limit=0", None, (400, "invalid_request")),
        ("POST", "/keys", {"tenant": "No Name"}, (400, "invalid_request")),
        ("POST", "/keys", {"tenant": "a", "concurrency": 0}, (400, "invalid_request")),
        ("POST", "/keys", {"tenant": "a", "expires_at": "2001-01-01T00:00:00Z"}, (400, "invalid_request")),
        ("POST", "/keys", {"tenant": "a", "expires_at": "2090-01-01T00:00:00"}, (400, "invalid_request")),
        ("POST", "/keys", {"tenant": "a", "endpoints": ["x"]}, (400, "invalid_request")),
        ("POST", "/keys", {"tenant": "a", "typo": 1}, (400, "invalid_request")),
        ("POST", "/tenants", {"name": "a", "weight": 0}, (400, "invalid_request")),
        ("PATCH", "/keys/key_nope", {"note": "x"}, (404, "not_found")),
    ],
)
def test_mistakes_are_told(admin: Admin, method: str, path: str, body: Any, expected: tuple[int, str]) -> None:
    assert admin.refused(method, path, body) == expected


def test_the_api_is_documented(gateway: RunningGateway) -> None:
    document = httpx.get(f"{gateway.url}/openapi.json").json()

    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        if path.startswith("/admin")
        for operation in methods.values()
    ]
    assert len(operations) >= 15
    for path, operation in operations:
        assert operation.get("description"), path
        assert operation.get("security"), path
