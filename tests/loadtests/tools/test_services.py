"""The servers that other tests rely on: a kill loses nothing that was committed, and they come back."""

from __future__ import annotations

import psycopg
import pytest

from loadtests.tools.services import Postgres, Redis


@pytest.mark.services
def test_postgres_keeps_what_was_committed_through_a_kill():
    with Postgres.run() as database:
        with psycopg.connect(database.dsn) as connection:
            connection.execute("CREATE TABLE kept (word text)")
            connection.execute("INSERT INTO kept VALUES ('signet')")
        database.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database.dsn, connect_timeout=2)
        database.start()
        with psycopg.connect(database.dsn) as connection:
            assert connection.execute("SELECT word FROM kept").fetchone() == ("signet",)


@pytest.mark.services
def test_redis_comes_back_on_the_same_port():
    with Redis.run() as server:
        url = server.url
        server.kill()
        assert not server.ready()
        server.start()
        assert server.ready()
        assert server.url == url
