"""`signet keys`."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.database import DatabaseSettings
from serving.identity import Identity, Limits
from serving.identity.cli import keys


@dataclass
class Settings:
    home: Path
    database: DatabaseSettings = field(default_factory=DatabaseSettings)


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(keys, arguments, obj=lambda: Settings(home))


def test_create_prints_what_scripts_need(tmp_path: Path) -> None:
    result = run(tmp_path, "create", "--tenant", "acme", "--json")

    printed = json.loads(result.stdout)
    assert set(printed) == {"id", "key", "tenant"}
    identity = Identity(f"sqlite:///{tmp_path / 'signet.db'}")
    principal = identity.authenticate(printed["key"])
    identity.close()
    assert principal is not None
    assert (principal.key_id, principal.tenant, principal.admin) == (printed["id"], "acme", False)


def test_create_prints_only_the_key_on_stdout(tmp_path: Path) -> None:
    result = run(tmp_path, "create", "--tenant", "acme")

    assert result.stdout.startswith("sk-signet-")
    assert len(result.stdout.splitlines()) == 1


def test_create_takes_limits_and_mark(tmp_path: Path) -> None:
    limits = ["--requests-per-minute", "6", "--tokens-per-minute", "70", "--concurrency", "8"]
    printed = json.loads(
        run(
            tmp_path, "create", "--tenant", "a", "--admin", "--mark", "on", "--may-choose-mark", *limits, "--json"
        ).stdout
    )

    identity = Identity(f"sqlite:///{tmp_path / 'signet.db'}")
    principal = identity.authenticate(printed["key"])
    identity.close()
    assert principal is not None
    assert principal.admin
    assert principal.limits == Limits(6, 70, 8)
    assert (principal.mark.default, principal.mark.allowed) == ("on", True)


def test_list_shows_keys_without_their_secret(tmp_path: Path) -> None:
    printed = json.loads(run(tmp_path, "create", "--tenant", "acme", "--json").stdout)

    as_json, as_text = run(tmp_path, "list", "--json"), run(tmp_path, "list")

    assert json.loads(as_json.stdout)[0]["id"] == printed["id"]
    assert printed["id"] in as_text.stdout
    assert printed["key"] not in as_json.stdout + as_text.stdout


def test_revoke_ends_the_key(tmp_path: Path) -> None:
    printed = json.loads(run(tmp_path, "create", "--tenant", "acme", "--json").stdout)

    assert run(tmp_path, "revoke", printed["id"]).exit_code == 0

    assert json.loads(run(tmp_path, "list", "--json").stdout)[0]["revoked_at"] is not None


def created(home: Path, *options: str) -> dict[str, str]:
    result = run(home, "create", "--tenant", "acme", "--json", *options)
    assert result.exit_code == 0, result.output
    made: dict[str, str] = json.loads(result.stdout)
    return made


def shown(home: Path, *arguments: str) -> dict[str, Any]:
    result = run(home, *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_create_takes_scopes_expiry_and_budgets(tmp_path: Path) -> None:
    made = created(
        tmp_path,
        *("--name", "ci", "--model", "llama-*", "--model", "chat", "--endpoint", "chat", "--expires", "2h"),
        *("--budget", "month=100.5", "--budget", "day=0.000000001"),
    )

    info = shown(tmp_path, "show", made["id"])
    assert (info["name"], info["models"], info["endpoints"]) == ("ci", ["chat", "llama-*"], ["chat"])
    assert 7100 < info["expires_at"] - time.time() <= 7200
    assert {budget["period"]: budget["amount_nanos"] for budget in info["budgets"]} == {
        "month": 100_500_000_000,
        "day": 1,
    }


def test_update_changes_what_is_named_and_leaves_the_rest(tmp_path: Path) -> None:
    made = created(
        tmp_path, "--model", "chat", "--concurrency", "3", "--expires", "2h", "--name", "ci", "--budget", "day=1"
    )

    info = shown(
        tmp_path,
        "update",
        made["id"],
        *("--concurrency", "none", "--expires", "never", "--budget", "day=none", "--admin"),
    )
    assert (info["limits"]["concurrency"], info["expires_at"], info["budgets"], info["admin"]) == (None, None, [], True)
    assert (info["models"], info["name"], info["mark"]) == (["chat"], "ci", {"default": "on", "allowed": True})

    info = shown(tmp_path, "update", made["id"], "--model", "*", "--endpoint", "all", "--mark", "off", "--no-admin")
    assert (info["models"], info["endpoints"], info["mark"]["default"], info["admin"]) == (None, None, "off", False)


@pytest.mark.parametrize(
    ("when", "seconds"),
    [("2090-01-31", 3789504000.0), ("2090-01-31T12:00Z", 3789547200.0), ("2090-01-31T12:00+02:00", 3789540000.0)],
)
def test_expiry_may_be_a_date(tmp_path: Path, when: str, seconds: float) -> None:
    made = created(tmp_path, "--expires", when)

    assert shown(tmp_path, "show", made["id"])["expires_at"] == seconds


def test_rotate_prints_the_new_key_and_keeps_the_old_for_the_grace(tmp_path: Path) -> None:
    old = created(tmp_path)
    new = shown(tmp_path, "rotate", old["id"], "--grace", "1h")
    as_text = run(tmp_path, "rotate", old["id"], "--grace", "1h")

    assert set(new) == {"id", "key", "tenant"}
    assert new["id"] == old["id"]
    identity = Identity(f"sqlite:///{tmp_path / 'signet.db'}")
    assert all(identity.authenticate(key) for key in (old["key"], new["key"], as_text.stdout.strip()))
    identity.close()


def test_tenants_are_created_listed_and_changed(tmp_path: Path) -> None:
    shown(tmp_path, "tenants", "create", "lab", "--weight", "2", "--budget", "total=10")

    info = shown(tmp_path, "tenants", "update", "lab", "--suspend", "--tokens-per-minute", "5", "--priority", "3")
    assert (info["weight"], info["priority"], info["limits"]["tokens_per_minute"]) == (2.0, 3, 5)
    assert info["suspended_at"] is not None
    assert [budget["amount_nanos"] for budget in info["budgets"]] == [10 * 10**9]

    assert shown(tmp_path, "tenants", "update", "lab", "--resume")["suspended_at"] is None
    assert shown(tmp_path, "tenants", "show", "lab")["version"] == 4
    assert "lab" in run(tmp_path, "tenants", "list").stdout


def test_lists_for_people_tell_what_is_set(tmp_path: Path) -> None:
    created(tmp_path, "--name", "ci", "--model", "chat", "--concurrency", "3", "--budget", "month=100")
    run(tmp_path, "tenants", "update", "acme", "--suspend", "--budget", "day=2.5")

    line = run(tmp_path, "list").stdout
    assert "name ci; 3 at once; $100.00 a month; models chat; mark on (request may choose)" in line
    assert "suspended; weight 1, priority 0; no limits; $2.50 a day" in run(tmp_path, "tenants", "list").stdout
    assert run(tmp_path, "list", "--tenant", "other").stdout == "no keys yet: signet keys create --tenant NAME\n"


def test_every_change_is_in_the_audit_chain(tmp_path: Path) -> None:
    made = created(tmp_path, "--concurrency", "3")
    new = shown(tmp_path, "rotate", made["id"])
    run(tmp_path, "revoke", made["id"])
    run(tmp_path, "update", made["id"], "--note", "x")
    run(tmp_path, "tenants", "update", "acme", "--budget", "day=1")

    with closing(sqlite3.connect(tmp_path / "signet.db")) as database:
        found = database.execute("select actor, action, subject, details from audit order by id").fetchall()
    assert [(action, subject, json.loads(details)) for _, action, subject, details in found] == [
        ("key.create", made["id"], {"tenant": "acme", "concurrency": 3}),
        ("key.rotate", made["id"], {"grace_s": 0.0}),
        ("key.revoke", made["id"], {}),
        ("key.update", made["id"], {"note": "x"}),
        ("key.update.failed", made["id"], {"reason": f"key {made['id']} is revoked"}),
        ("tenant.update", "acme", {"budgets_nanos": {"day": 10**9}}),
    ]
    assert all(actor.startswith("cli") for actor, *_ in found)
    assert not any(new[:8] in str(found) for new in (made["key"][10:], new["key"][10:]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["revoke", "key_nope"], "there is no key 'key_nope'", id="unknown key"),
        pytest.param(["rotate", "key_nope"], "there is no key 'key_nope'", id="rotate unknown key"),
        pytest.param(["show", "key_nope"], "there is no key 'key_nope'", id="show unknown key"),
        pytest.param(["create", "--tenant", "No Name"], "is not a tenant name", id="bad tenant"),
        pytest.param(["create", "--tenant", "a", "--model", "x y"], "is not a model's name", id="bad model"),
        pytest.param(["create", "--tenant", "a", "--expires", "2001-01-01"], "expire in the future", id="past"),
        pytest.param(["create", "--tenant", "a", "--note", "\udcff"], "is not valid UTF-8", id="bytes"),
        pytest.param(["tenants", "show", "nope"], "there is no tenant 'nope'", id="unknown tenant"),
        pytest.param(["tenants", "create", "a", "--weight", "0"], "weight must be between", id="bad weight"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = run(tmp_path, *arguments)

    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--budget", "week=1"],
        ["--budget", "day=-1"],
        ["--budget", "day=1e999999"],
        ["--budget", "day=0.0000000001"],
        ["--concurrency", "0x"],
        ["--expires", "soon"],
        ["--endpoint", "chats"],
    ],
)
def test_unusable_options_are_told(tmp_path: Path, options: list[str]) -> None:
    result = run(tmp_path, "create", "--tenant", "a", *options)

    assert result.exit_code == 2
    assert f"Invalid value for '{options[0]}'" in result.stderr
