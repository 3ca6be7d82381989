"""Databases for identity: SQLite, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.tools.services import Postgres
from serving.identity import Identity


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres.run() as database:
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'signet.db'}"
    database: Postgres = request.getfixturevalue("postgres")
    database.reset()
    return database.url


@pytest.fixture
def any_identity(any_url: str) -> Iterator[Identity]:
    identity = Identity(any_url)
    yield identity
    identity.close()
