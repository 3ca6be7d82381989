from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.served_model import ModelServers, Serve


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A factory of served models."""
    servers = ModelServers()
    yield servers.start
    servers.stop()
