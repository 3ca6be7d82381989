"""A change that one process made is known to the others when its call has returned."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.identity import Identity, IdentitySettings, Principal, Rejected
from serving.identity.key import generate_key
from tests.support.running import wait_until

# Longer than any test: what is known sooner was told, not polled.
NEVER_S = 3600.0


@pytest.fixture
def gateway(url: str) -> Iterator[Identity]:
    """A running gateway's identity."""
    identity = Identity(url, IdentitySettings(poll_interval_s=NEVER_S))
    identity.start()
    yield identity
    identity.close()


@pytest.fixture
def elsewhere(url: str, gateway: Identity) -> Iterator[Identity]:
    """Another process's, which the gateway already listens to."""
    identity = Identity(url)
    yield identity
    identity.close()


async def ask(identity: Identity, presented: str) -> Principal:
    return identity.authenticate(presented) or await identity.verify(presented)


def code(identity: Identity, presented: str) -> str:
    try:
        asyncio.run(ask(identity, presented))
    except Rejected as no:
        return no.code
    return "welcome"


def test_a_key_works_when_the_call_that_made_it_returns(gateway: Identity, elsewhere: Identity) -> None:
    for _ in range(20):
        key = elsewhere.create_key("acme")

        assert code(gateway, key.key) == "welcome"


def test_a_revoked_key_ends_when_the_call_returns(gateway: Identity, elsewhere: Identity) -> None:
    listens(gateway, elsewhere)
    for _ in range(20):
        key = elsewhere.create_key("acme")
        assert code(gateway, key.key) == "welcome"

        elsewhere.revoke(key.id)

        assert code(gateway, key.key) == "invalid_api_key"


def test_whatever_changes_holds_at_once(gateway: Identity, elsewhere: Identity) -> None:
    listens(gateway, elsewhere)
    key = elsewhere.create_key("acme")
    assert code(gateway, key.key) == "welcome"

    elsewhere.update_tenant("acme", suspended=True)
    assert code(gateway, key.key) == "tenant_suspended"
    elsewhere.update_tenant("acme", suspended=False)
    assert code(gateway, key.key) == "welcome"

    new = elsewhere.rotate_key(key.id)
    assert (code(gateway, key.key), code(gateway, new.key)) == ("invalid_api_key", "welcome")
    elsewhere.update_key(key.id, models=["llama-*"])
    assert not asyncio.run(ask(gateway, new.key)).may_use_model("other")
    elsewhere.update_key(key.id, expires_at=time.time() + 0.01)
    wait_until(lambda: code(gateway, new.key) == "expired_api_key", 5, "the key expires")
    elsewhere.update_key(key.id, expires_at=None)
    assert code(gateway, new.key) == "welcome"


def test_several_gateways_take_a_change_over(url: str, elsewhere: Identity) -> None:
    workers = [Identity(url, IdentitySettings(poll_interval_s=NEVER_S)) for _ in range(3)]
    for worker in workers:
        worker.start()
        listens(worker, elsewhere)
    key = elsewhere.create_key("acme")
    assert [code(worker, key.key) for worker in workers] == ["welcome"] * 3

    elsewhere.revoke(key.id)

    assert [code(worker, key.key) for worker in workers] == ["invalid_api_key"] * 3
    for worker in workers:
        worker.close()


def test_a_key_of_the_command_line_works_in_a_running_gateway(tmp_path: Path) -> None:
    gateway = Identity(f"sqlite:///{tmp_path / 'signet.db'}", IdentitySettings(poll_interval_s=NEVER_S))
    command = [sys.executable, "-m", "signet", "keys"]
    environment = {"SIGNET_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def run(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    key = run("create", "--tenant", "acme").split()[0]
    assert code(gateway, key) == "welcome"
    run("revoke", asyncio.run(ask(gateway, key)).key_id)
    assert code(gateway, key) == "invalid_api_key"

    gateway.close()


def test_unknown_keys_cost_the_database_a_few_looks_however_many_there_are(gateway: Identity) -> None:
    looks = count_looks(gateway)

    async def flood() -> list[object]:
        asked = (ask(gateway, generate_key()) for _ in range(500))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    refused = asyncio.run(flood())

    assert all(isinstance(no, Rejected) and no.code == "invalid_api_key" for no in refused)
    assert len(looks) <= 2


def test_an_unknown_key_is_looked_up_once(gateway: Identity) -> None:
    unknown, looks = generate_key(), count_looks(gateway)

    assert [code(gateway, unknown) for _ in range(5)] == ["invalid_api_key"] * 5
    assert len(looks) == 1


@pytest.mark.parametrize("presented", ["", "x", "Bearer", "sk-signet-", "sk-signet-" + "A" * 44, "sk-" + "a" * 50])
def test_what_has_not_the_form_of_a_key_is_not_looked_up(gateway: Identity, presented: str) -> None:
    looks = count_looks(gateway)

    assert code(gateway, presented) == "invalid_api_key"
    assert looks == []


def test_unknown_keys_that_are_remembered_are_bounded(gateway: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.identity.identity.MAX_UNKNOWN", 10)

    async def flood() -> None:
        await asyncio.gather(*(ask(gateway, generate_key()) for _ in range(100)), return_exceptions=True)

    asyncio.run(flood())

    assert len(gateway._unknown) == 10


def test_a_caller_that_leaves_cancels_nobody_elses_look(gateway: Identity, elsewhere: Identity) -> None:
    key = elsewhere.create_key("acme").key

    async def two() -> Principal:
        gone, stays = (asyncio.create_task(ask(gateway, secret)) for secret in (generate_key(), key))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(two()).tenant == "acme"


def test_a_note_that_is_replaced_or_emptied_is_found_again(tmp_path: Path) -> None:
    url, note = f"sqlite:///{tmp_path / 'signet.db'}", tmp_path / "signet.db-changes"
    gateway, other = Identity(url, IdentitySettings(poll_interval_s=0.02)), Identity(url)
    gateway.start()
    key = other.create_key("acme")
    assert code(gateway, key.key) == "welcome"

    note.unlink()
    other.create_key("acme")
    wait_until(lambda: gateway._changes._inode == note.stat().st_ino, 5, "the new note is open")  # type: ignore[attr-defined]
    note.write_bytes(b"")
    assert code(gateway, key.key) == "welcome"
    other.revoke(key.id)
    assert code(gateway, key.key) == "invalid_api_key"

    gateway.close()
    other.close()


@pytest.mark.services
def test_a_gateway_that_hangs_holds_a_change_up_for_a_bounded_time(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = request.getfixturevalue("postgres")
    database.reset()
    monkeypatch.setattr("serving.identity.changes._CONFIRM_TIMEOUT_S", 0.1)
    elsewhere = Identity(database.url)
    gateway = Identity(database.url, IdentitySettings(poll_interval_s=NEVER_S))
    gateway.start()
    listens(gateway, elsewhere)
    released = threading.Event()
    monkeypatch.setattr(gateway, "refresh", lambda: released.wait(30))

    key = elsewhere.create_key("acme")  # returns although the gateway has not read it

    assert gateway.authenticate(key.key) is None
    released.set()
    gateway.close()
    elsewhere.close()


def listens(gateway: Identity, elsewhere: Identity) -> None:
    """Wait until the gateway's thread follows: it begins a moment after `start`, as a gateway's port opens later."""
    if gateway.database.dialect.name == "postgresql":
        changes = gateway._changes
        wait_until(lambda: changes._held == gateway._revision, 10, "the gateway listens")  # type: ignore[attr-defined]


def count_looks(gateway: Identity) -> list[int]:
    """One for each look that askers cause; the thread that follows the database has its own."""
    looks: list[int] = []
    look = gateway._lookups._look

    def counted() -> bool:
        looks.append(1)
        return look()

    gateway._lookups._look = counted
    return looks
