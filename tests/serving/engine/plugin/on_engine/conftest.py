"""The running engine, and a tenant that it has never heard of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.provenance import Detector, Keyring, MarkKey
from tests.support.engine_client import EngineClient


@pytest.fixture(scope="module")
def ring(keyring_path: Path) -> Keyring:
    return Keyring.open(keyring_path)


@pytest.fixture(scope="module")
def key(ring: Keyring) -> MarkKey:
    """Made while the engine runs: a new tenant needs no restart."""
    return ring.mark_key("plugin-test")


@pytest.fixture(scope="module")
def stranger(ring: Keyring) -> MarkKey:
    """A key that marked nothing."""
    return ring.mark_key("plugin-test-other")


@pytest.fixture(scope="module")
def detector(model_folder: Path) -> Detector:
    return Detector(model_folder)


@pytest.fixture(scope="module")
def engine(engine_url: str, key: MarkKey) -> Iterator[EngineClient]:
    client = EngineClient(engine_url, key)
    yield client
    client.close()
