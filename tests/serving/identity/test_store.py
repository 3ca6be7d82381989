"""Keys, tenants and budgets on SQLite and PostgreSQL: changed, rotated, scoped, suspended, and by two at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from serving.identity import (
    AlreadyExists,
    Budget,
    Identity,
    IdentitySettings,
    InvalidValue,
    Limits,
    NotFound,
    Rejected,
    VersionConflict,
)
from serving.identity import identity as identity_module


def test_a_key_carries_what_was_set_of_it_and_of_its_tenant(any_identity: Identity) -> None:
    ends = time.time() + 3600
    new = any_identity.create_key(
        "acme", name="ci", models=["llama-*", "chat"], endpoints=["chat"], expires_at=ends, concurrency=4
    )
    any_identity.update_tenant("acme", weight=2.5, priority=3, tokens_per_minute=1000)
    any_identity.set_budget(Budget("tenant", "acme", "month", 5 * 10**9))
    any_identity.set_budget(Budget("key", new.id, "day", 10**9))

    principal = any_identity.authenticate(new.key)

    assert principal is not None
    assert principal.models == {"llama-*", "chat"}
    assert principal.endpoints == {"chat"}
    assert principal.expires_at == ends
    assert principal.limits == Limits(concurrency=4)
    assert (principal.weight, principal.priority, principal.tenant_limits) == (2.5, 3, Limits(tokens_per_minute=1000))
    assert principal.budgets == (Budget("key", new.id, "day", 10**9), Budget("tenant", "acme", "month", 5 * 10**9))


@pytest.mark.parametrize(
    ("models", "name", "may"),
    [
        (None, "anything", True),
        (["chat"], "chat", True),
        (["chat"], "chat2", False),
        (["llama-*"], "llama-3-8b", True),
        (["llama-*"], "my-llama-3", False),
        (["org/*@2"], "org/model@2", True),
        (["org/*@2"], "org/model@3", False),
    ],
)
def test_models_are_names_or_patterns(any_identity: Identity, models: list[str] | None, name: str, may: bool) -> None:
    principal = any_identity.authenticate(any_identity.create_key("acme", models=models).key)

    assert principal is not None
    assert principal.may_use_model(name) is may


async def test_a_key_expires_to_the_second_without_a_look_at_the_database(
    any_identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = time.time() + 100
    key = any_identity.create_key("acme", expires_at=ends).key
    any_identity.close()  # nothing can be read any more

    monkeypatch.setattr(identity_module.time, "time", lambda: ends - 0.001)
    assert any_identity.authenticate(key) is not None
    monkeypatch.setattr(identity_module.time, "time", lambda: ends)
    assert any_identity.authenticate(key) is None
    with pytest.raises(Rejected) as raised:
        await any_identity.verify(key)
    assert (raised.value.code, raised.value.status) == ("expired_api_key", 401)


def test_a_rotated_key_keeps_its_id_and_its_old_secret_for_the_grace(
    any_identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = any_identity.create_key("acme", models=["chat"])
    second = any_identity.rotate_key(first.id, grace_s=60)
    third = any_identity.rotate_key(first.id, grace_s=120)

    held = [any_identity.authenticate(new.key) for new in (first, second, third)]
    assert [principal and principal.key_id for principal in held] == [first.id] * 3
    assert any_identity.key(first.id).hint == third.key[-4:]

    later = time.time() + 61
    monkeypatch.setattr(identity_module.time, "time", lambda: later)
    assert any_identity.authenticate(first.key) is None
    assert any_identity.authenticate(second.key) is not None
    assert any_identity.authenticate(third.key) is not None


def test_a_rotation_without_grace_ends_every_older_secret(any_identity: Identity) -> None:
    first = any_identity.create_key("acme")
    second = any_identity.rotate_key(first.id, grace_s=60)
    third = any_identity.rotate_key(first.id)

    assert any_identity.authenticate(first.key) is None
    assert any_identity.authenticate(second.key) is None
    assert any_identity.authenticate(third.key) is not None


def test_a_secret_in_grace_ends_with_its_key(any_identity: Identity) -> None:
    old = any_identity.create_key("acme", expires_at=time.time() + 30)
    any_identity.rotate_key(old.id, grace_s=3600)
    principal = any_identity.authenticate(old.key)
    assert principal is not None
    assert principal.expires_at == any_identity.key(old.id).expires_at

    any_identity.revoke(old.id)
    assert any_identity.authenticate(old.key) is None


async def test_a_suspended_tenant_is_told_so_and_comes_back(any_identity: Identity) -> None:
    key = any_identity.create_key("acme").key

    any_identity.update_tenant("acme", suspended=True)
    assert any_identity.authenticate(key) is None
    with pytest.raises(Rejected) as raised:
        await any_identity.verify(key)
    assert (raised.value.code, raised.value.status) == ("tenant_suspended", 403)

    any_identity.update_tenant("acme", suspended=False)
    assert any_identity.authenticate(key) is not None


def test_a_change_leaves_what_it_does_not_name(any_identity: Identity) -> None:
    key_id = any_identity.create_key("acme", name="ci", concurrency=4, models=["chat"]).id

    any_identity.update_key(key_id, note="for the nightly run")
    info = any_identity.update_key(key_id, concurrency=None)

    assert (info.name, info.note, info.models) == ("ci", "for the nightly run", ("chat",))
    assert info.limits == Limits()
    assert info.version == 3


def test_who_read_an_older_version_does_not_overwrite_a_newer_one(any_identity: Identity) -> None:
    key_id = any_identity.create_key("acme").id
    any_identity.update_key(key_id, expected_version=1, note="first")

    with pytest.raises(VersionConflict, match="it is at version 2, not 1"):
        any_identity.update_key(key_id, expected_version=1, note="second")
    with pytest.raises(VersionConflict):
        any_identity.rotate_key(key_id, expected_version=1)
    with pytest.raises(VersionConflict):
        any_identity.update_tenant("acme", expected_version=7, weight=2.0)

    assert any_identity.key(key_id).note == "first"


def test_of_many_who_change_one_version_at_once_one_succeeds(url: str) -> None:
    """And changes without a version all take place: nothing is lost."""
    identity = Identity(url)
    key_id = identity.create_key("acme").id
    outcomes: list[str] = []

    def change(number: int) -> None:
        own = Identity(url)
        try:
            own.update_key(key_id, expected_version=1, note=str(number))
            outcomes.append("changed")
        except VersionConflict:
            outcomes.append("conflict")
        for _ in range(5):
            own.update_tenant("acme", weight=1.0 + number)
        own.close()

    in_threads(change, 6)

    assert sorted(outcomes) == ["changed"] + ["conflict"] * 5
    assert identity.tenant("acme").version == 31
    identity.close()


def test_one_tenant_is_made_once_by_many_at_once(url: str) -> None:
    def create(_: int) -> None:
        own = Identity(url)
        own.create_key("acme")
        own.close()

    in_threads(create, 6)

    identity = Identity(url)
    assert len(identity.list_keys()) == 6
    assert identity.tenants() == ["acme"]
    identity.close()


def test_a_tenant_and_key_made_while_the_gateway_reads_are_no_surprise(any_identity: Identity, url: str) -> None:
    """Each statement of a reload sees another moment: a key may be read whose tenant was not there a moment before."""
    gateway = Identity(url)
    made: list[str] = []

    def meanwhile(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if " FROM identity_revision" not in statement:
            made.append(any_identity.create_key(f"tenant-{len(made)}").key)

    any_identity.create_key("acme")
    event.listen(gateway._engine, "after_cursor_execute", meanwhile)
    gateway.refresh()
    event.remove(gateway._engine, "after_cursor_execute", meanwhile)
    gateway.refresh()

    assert len(made) >= 4
    assert all(gateway.authenticate(key) for key in made)
    gateway.close()


def test_a_repeated_request_makes_no_second_key(any_identity: Identity) -> None:
    first = any_identity.create_key("acme", idempotency_key="deploy-7")

    with pytest.raises(AlreadyExists, match=first.id):
        any_identity.create_key("acme", idempotency_key="deploy-7")

    any_identity.create_key("acme", idempotency_key="deploy-8")
    any_identity.create_key("acme")
    assert len(any_identity.list_keys()) == 3


def test_keys_are_listed_in_pages(any_identity: Identity) -> None:
    made = [any_identity.create_key(tenant).id for tenant in ("a", "b", "a", "b", "a")]

    first = any_identity.list_keys(limit=2)
    rest = any_identity.list_keys(after=first[-1].id)

    assert [info.id for info in first + rest] == made
    assert [info.tenant for info in any_identity.list_keys(tenant="a")] == ["a"] * 3
    assert [info.name for info in any_identity.list_tenants(after="a", limit=5)] == ["b"]


def test_budgets_are_set_replaced_and_lifted(any_identity: Identity) -> None:
    any_identity.create_tenant("acme")

    any_identity.set_budget(Budget("tenant", "acme", "day", 1))
    any_identity.set_budget(Budget("tenant", "acme", "day", 2))
    any_identity.set_budget(Budget("tenant", "acme", "total", 3))
    assert {b.period: b.amount_nanos for b in any_identity.tenant("acme").budgets} == {"day": 2, "total": 3}

    any_identity.remove_budget("tenant", "acme", "day")
    assert [b.period for b in any_identity.tenant("acme").budgets] == ["total"]
    with pytest.raises(NotFound):
        any_identity.set_budget(Budget("key", "key_nope", "day", 1))


def test_when_keys_were_last_used_is_written_now_and_then(url: str) -> None:
    identity = Identity(url, IdentitySettings(poll_interval_s=0.02, last_used_interval_s=0.05))
    used, idle = identity.create_key("acme"), identity.create_key("acme")
    revision = identity._revision
    before = time.time()
    identity.start()
    identity.authenticate(used.key)

    assert wait_for(lambda: identity.key(used.id).last_used_at is not None)
    moment = identity.key(used.id).last_used_at
    assert moment is not None
    assert before <= moment <= time.time()
    assert identity.key(idle.id).last_used_at is None
    assert (identity._revision, identity.key(used.id).version) == (revision, 1), "gateways have nothing to reload"
    identity.close()


def test_when_a_key_was_last_used_is_written_at_the_end_too(url: str) -> None:
    identity = Identity(url)
    key = identity.create_key("acme")
    identity.start()
    identity.authenticate(key.key)
    identity.close()

    again = Identity(url)
    assert again.key(key.id).last_used_at is not None
    again.close()


def test_changes_made_elsewhere_are_followed(any_identity: Identity, url: str) -> None:
    gateway = Identity(url, IdentitySettings(poll_interval_s=0.02))
    gateway.start()
    try:
        new = any_identity.create_key("acme")
        assert wait_for(lambda: gateway.authenticate(new.key) is not None)
        rotated = any_identity.rotate_key(new.id)
        assert wait_for(lambda: gateway.authenticate(rotated.key) is not None)
        assert gateway.authenticate(new.key) is None
        any_identity.revoke(new.id)
        assert wait_for(lambda: gateway.authenticate(rotated.key) is None)
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"models": ["a b"]}, "is not a model's name"),
        ({"models": []}, "name between 1 and 200 models"),
        ({"endpoints": ["chats"]}, "'chats' is no endpoint; there are chat, completions"),
        ({"endpoints": []}, "no endpoint is named"),
        ({"expires_at": 1.0}, "must expire in the future"),
        ({"expires_at": float("nan")}, "must expire in the future"),
        ({"name": "x" * 101}, "name must be one line of at most 100"),
        ({"note": "two\nlines"}, "note must be one line"),
        ({"concurrency": 0}, "concurrency must be between"),
    ],
)
def test_what_is_set_of_a_key_is_checked(any_identity: Identity, fields: dict[str, Any], says: str) -> None:
    key_id = any_identity.create_key("acme").id

    with pytest.raises(InvalidValue, match=says):
        any_identity.create_key("acme", **fields)
    with pytest.raises(InvalidValue, match=says):
        any_identity.update_key(key_id, **fields)

    assert any_identity.key(key_id).version == 1


@pytest.mark.parametrize(
    "fields", [{"weight": 0.0}, {"weight": float("nan")}, {"priority": 101}, {"requests_per_minute": 0}]
)
def test_what_is_set_of_a_tenant_is_checked(any_identity: Identity, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        any_identity.create_tenant("acme", **fields)

    assert any_identity.tenants() == []


def test_a_revoked_key_cannot_be_changed_or_rotated(any_identity: Identity) -> None:
    key_id = any_identity.create_key("acme").id
    any_identity.revoke(key_id)

    for change in (
        lambda: any_identity.update_key(key_id, note="x"),
        lambda: any_identity.rotate_key(key_id),
        lambda: any_identity.set_budget(Budget("key", key_id, "day", 1)),
    ):
        with pytest.raises(InvalidValue, match="is revoked"):
            change()


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Threads with engines of their own stand for processes: each has its own connections."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
