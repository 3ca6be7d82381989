"""Keys: created, found by their digest, limited, revoked, and followed from other processes."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.database import DatabaseError
from serving.identity import Identity, IdentityError, IdentitySettings, Limits, MarkPolicy


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'signet.db'}"


@pytest.fixture
def identity(url: str) -> Iterator[Identity]:
    identity = Identity(url)
    yield identity
    identity.close()


def test_a_created_key_authenticates_as_its_tenant(identity: Identity) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=1000, concurrency=4)

    new = identity.create_key("acme", admin=True, limits=limits, mark="on", may_choose_mark=False)
    principal = identity.authenticate(new.key)

    assert re.fullmatch(r"sk-signet-[A-Za-z0-9_-]{43}", new.key)
    assert principal is not None
    assert (principal.key_id, principal.tenant, principal.admin) == (new.id, "acme", True)
    assert principal.limits == limits
    assert principal.mark == MarkPolicy("on", allowed=False)


@pytest.mark.parametrize("presented", ["", "sk-signet-", "sk-signet-" + "A" * 43, "\udcff", "é" * 5000])
def test_anything_else_does_not_authenticate(identity: Identity, presented: str) -> None:
    identity.create_key("acme")

    assert identity.authenticate(presented) is None


def test_a_changed_character_does_not_authenticate(identity: Identity) -> None:
    key = identity.create_key("acme").key
    changed = key[:-1] + ("A" if key[-1] != "A" else "B")

    assert identity.authenticate(changed) is None


def test_the_key_itself_is_nowhere_on_disk(identity: Identity, tmp_path: Path) -> None:
    new = identity.create_key("acme")

    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert new.id.encode() in on_disk
    assert new.key.removeprefix("sk-signet-").encode() not in on_disk
    assert new.key not in repr(new)


def test_a_revoked_key_ends_at_once_and_stays_listed(identity: Identity) -> None:
    kept, ended = identity.create_key("acme"), identity.create_key("acme")

    identity.revoke(ended.id)
    first = next(info for info in identity.list_keys() if info.id == ended.id)
    identity.revoke(ended.id)
    second = next(info for info in identity.list_keys() if info.id == ended.id)

    assert identity.authenticate(ended.key) is None
    assert identity.authenticate(kept.key) is not None
    assert first.revoked_at is not None
    assert second.revoked_at == first.revoked_at


def test_revoking_an_unknown_key_says_so(identity: Identity) -> None:
    with pytest.raises(IdentityError, match="there is no key 'key_x'"):
        identity.revoke("key_x")


@pytest.mark.parametrize("name", ["", "Acme", "-a", "a b", "a" * 64, "ä", "a\n"])
def test_tenant_names_are_checked(identity: Identity, name: str) -> None:
    with pytest.raises(IdentityError, match="is not a tenant name"):
        identity.create_key(name)

    assert identity.tenants() == []


@pytest.mark.parametrize("limits", [Limits(requests_per_minute=0), Limits(concurrency=-1), Limits(tokens_per_minute=0)])
def test_limits_are_checked(identity: Identity, limits: Limits) -> None:
    with pytest.raises(IdentityError, match="must be between 1 and"):
        identity.create_key("acme", limits=limits)


def test_by_default_answers_are_marked_and_a_request_may_choose(identity: Identity) -> None:
    principal = identity.authenticate(identity.create_key("acme").key)

    assert principal is not None
    assert principal.mark == MarkPolicy("on", allowed=True)


def test_keys_made_and_revoked_elsewhere_are_followed(identity: Identity, url: str) -> None:
    gateway = Identity(url, IdentitySettings(poll_interval_s=0.05))
    gateway.start()
    try:
        new = identity.create_key("acme")
        assert wait_for(lambda: gateway.authenticate(new.key) is not None)

        identity.revoke(new.id)
        assert wait_for(lambda: gateway.authenticate(new.key) is None)
    finally:
        gateway.close()


def test_nothing_is_read_again_while_nothing_changes(identity: Identity, url: str) -> None:
    other = Identity(url)

    assert identity.refresh() is False
    other.create_key("acme")
    assert identity.refresh() is True
    assert identity.refresh() is False

    other.close()


def test_keys_stay_valid_while_the_database_is_gone(identity: Identity, tmp_path: Path) -> None:
    key = identity.create_key("acme").key
    with sqlite3.connect(tmp_path / "signet.db") as connection:
        connection.execute("ALTER TABLE api_keys RENAME TO hidden")
        connection.execute("UPDATE identity_revision SET revision = revision + 1")
    connection.close()

    with pytest.raises(IdentityError, match="not usable"):
        identity.refresh()

    assert identity.authenticate(key) is not None


def test_many_processes_may_create_the_same_tenant_at_once(url: str) -> None:
    """Threads with engines of their own stand for processes: each has its own connections."""
    made: list[str] = []

    def create() -> None:
        own = Identity(url)
        made.append(own.create_key("acme").key)
        own.close()

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    identity = Identity(url)

    assert len(made) == 8
    assert all(identity.authenticate(key) for key in made)
    assert identity.tenants() == ["acme"]
    identity.close()


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "signet.db").write_bytes(b"this is no database, it is a text file that is long enough" * 20)

    with pytest.raises(DatabaseError) as raised:
        Identity(f"sqlite:///{tmp_path / 'signet.db'}")

    assert "\n" not in str(raised.value)
    assert "file is not a database" in str(raised.value)


def wait_for(condition: object, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False
