"""Installations to examine: settings of a fresh home, real servers, engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.tools.services import Postgres, Redis
from serving.settings import Settings
from tests.serving.doctor.examined import Engine


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a home of their own that listen on free ports, with some sections changed."""

    def make(**sections: Any) -> Settings:
        gateway = {"port": 0, **sections.pop("gateway", {})}
        drift = {"port": 0, **sections.pop("drift", {})}
        return Settings(**{"home": tmp_path / "home", "gateway": gateway, "drift": drift, **sections})

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with Postgres.run() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    postgres_server.reset()
    return postgres_server


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis.run() as server:
        yield server


@pytest.fixture
def start_engine() -> Iterator[Callable[..., Engine]]:
    engines = []

    def start(**says: Any) -> Engine:
        engines.append(Engine(**says))
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()
