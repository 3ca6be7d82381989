"""Tenants and keys in a database of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.identity import Identity


@pytest.fixture
def any_identity(url: str) -> Iterator[Identity]:
    identity = Identity(url)
    yield identity
    identity.close()
