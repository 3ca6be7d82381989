"""Databases to test with: a new SQLite file, an emptied PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.tools.services import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with Postgres.run() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A server with an empty database, alive again afterwards."""
    postgres_server.reset()
    yield postgres_server
    if not postgres_server.ready():
        postgres_server.kill()
        postgres_server.start()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'signet.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url
