from __future__ import annotations

from pathlib import Path

import pytest
from conftest import PREPARED

from training.compress.environment import ensure_environment


@pytest.fixture(scope="session")
def compressor_home() -> Path:
    """A home whose `cache` holds the real compressor's environment: 1.5 GB, kept between runs."""
    ensure_environment(PREPARED / "cache", PREPARED / "logs" / "compress-environment.log", show_progress=False)
    return PREPARED


@pytest.fixture(scope="session")
def compressor_python(compressor_home: Path) -> Path:
    log = compressor_home / "logs" / "compress-environment.log"
    return ensure_environment(compressor_home / "cache", log, show_progress=False)
