"""An engine's configuration in small, and a keyring for it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine.plugin import MarkProcessor
from serving.provenance import Keyring

EngineConfig = Callable[..., Any]


@pytest.fixture(autouse=True)
def _unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin keeps what it saw of the engine on the class: give each test its own."""
    monkeypatch.setattr(MarkProcessor, "ready", MarkProcessor.ready)


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "keyring.json", create=True)


@pytest.fixture
def engine_config(ring: Keyring) -> EngineConfig:
    """What the plugin reads of a `VllmConfig`; keyword arguments change parts of it."""

    def make(section: dict[str, Any] | None = None, **changes: Any) -> Any:
        parts = {
            "additional_config": {"signet": {"keyring": str(ring.path)} if section is None else section},
            "speculative_config": None,
            "use_v2_model_runner": False,
            "device_config": SimpleNamespace(device_type="cpu"),
            "scheduler_config": SimpleNamespace(async_scheduling=False),
        }
        return SimpleNamespace(**(parts | changes))

    return make
