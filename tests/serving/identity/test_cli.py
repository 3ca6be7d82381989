"""`signet keys`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving.identity import Identity, Limits
from serving.identity.cli import keys
from serving.ledger import DatabaseSettings


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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["revoke", "key_nope"], "there is no key 'key_nope'", id="unknown key"),
        pytest.param(["create", "--tenant", "No Name"], "is not a tenant name", id="bad tenant"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = run(tmp_path, *arguments)

    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
