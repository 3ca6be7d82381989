from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.prepared import PREPARED, prepare_compressor


@pytest.fixture(scope="session")
def compressor_python() -> Path:
    """The real compressor's environment."""
    return prepare_compressor()


@pytest.fixture(scope="session")
def compressor_home(compressor_python: Path) -> Path:
    """A home whose `cache` holds that environment."""
    return PREPARED
