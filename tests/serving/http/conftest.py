"""A server that runs, and certificates made for one test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.tools.certificate import Authority
from tests.serving.http.served import Served, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An authority (`ca`), and a `server` and a `client` certificate of it with their keys."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    server, server_key = authority.issue("localhost")
    client, client_key = authority.issue("client")
    return {
        "ca": authority.file,
        "server": server,
        "server_key": server_key,
        "client": client,
        "client_key": client_key,
    }
