"""The database of keys goes and comes back: whoever was let in still is, and changes are followed again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtests.tools.services import Postgres
from serving.identity import Identity, IdentityError, IdentitySettings
from tests.support.running import wait_until

pytestmark = pytest.mark.services


@pytest.fixture
def database() -> Iterator[Postgres]:
    """One that the test may kill."""
    with Postgres.run() as server:
        yield server


def test_keys_go_on_while_postgresql_is_killed_and_are_followed_when_it_is_back(database: Postgres) -> None:
    gateway = Identity(database.url, IdentitySettings(poll_interval_s=0.05, last_used_interval_s=0.05))
    elsewhere = Identity(database.url)
    gateway.start()
    key = elsewhere.create_key("acme")
    wait_until(lambda: gateway.authenticate(key.key) is not None, 5, "the key is known")
    try:
        database.kill()
        assert gateway.authenticate(key.key) is not None
        with pytest.raises(IdentityError, match="not usable") as raised:
            elsewhere.revoke(key.id)
        assert "secret" not in str(raised.value), "the database's password"
        assert gateway.authenticate(key.key) is not None

        database.start()
        wait_until(lambda: revoked(elsewhere, key.id), 10, "the key can be revoked")
        wait_until(lambda: gateway.authenticate(key.key) is None, 10, "the gateway follows again")
    finally:
        gateway.close()
        elsewhere.close()


def revoked(identity: Identity, key_id: str) -> bool:
    try:
        identity.revoke(key_id)
    except IdentityError:  # a connection from before
        return False
    return True
