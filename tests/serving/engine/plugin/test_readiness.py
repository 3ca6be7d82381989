"""Which engines can mark: each that cannot says why, and none starts with a keyring that is wrong."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine.plugin.readiness import DEFAULT_OPENING_NATS, readiness
from serving.provenance import Keyring, KeyringError

EngineConfig = Callable[..., Any]


def test_engine_with_a_keyring_can_mark(engine_config: EngineConfig, ring: Keyring) -> None:
    ready = readiness(engine_config())

    assert ready.require().path == ring.path
    assert ready.opening_nats == DEFAULT_OPENING_NATS


@pytest.mark.parametrize("additional", [{}, {"other": 1}])
def test_engine_without_a_keyring_says_how_to_give_one(engine_config: EngineConfig, additional: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="--additional-config"):
        readiness(engine_config(additional_config=additional)).require()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"speculative_config": object()}, "speculative"),
        ({"device_config": SimpleNamespace(device_type="cuda")}, "VLLM_USE_V2_MODEL_RUNNER"),
        ({"use_v2_model_runner": True, "speculative_config": object()}, "speculative"),
        ({"scheduler_config": SimpleNamespace(async_scheduling=True)}, "--no-async-scheduling"),
    ],
)
def test_engine_that_would_leave_answers_unmarked_refuses(
    engine_config: EngineConfig, change: dict[str, Any], reason: str
) -> None:
    ready = readiness(engine_config(**change))

    assert ready.keyring is None
    with pytest.raises(ValueError, match=reason):
        ready.require()


def test_missing_keyring_file_stops_the_engine(engine_config: EngineConfig) -> None:
    with pytest.raises(KeyringError, match="no keyring at"):
        readiness(engine_config({"keyring": "/nowhere/keyring.json"}))


def test_keyring_open_to_every_user_stops_the_engine(engine_config: EngineConfig, ring: Keyring) -> None:
    ring.path.chmod(0o644)

    with pytest.raises(KeyringError, match="chmod 600"):
        readiness(engine_config())


@pytest.mark.parametrize("section", [{"keyrin": "x"}, ["keyring"], "keyring"])
def test_unknown_setting_stops_the_engine(engine_config: EngineConfig, section: Any) -> None:
    with pytest.raises(ValueError, match="takes keyring, opening_nats and kgw_delta"):
        readiness(engine_config(section))


def test_opening_is_a_setting(engine_config: EngineConfig, ring: Keyring) -> None:
    assert readiness(engine_config({"keyring": str(ring.path), "opening_nats": 0})).opening_nats == 0


@pytest.mark.parametrize("delta", [0, -1, 21, "nan"])
def test_a_delta_that_cannot_be_stops_the_engine(engine_config: EngineConfig, ring: Keyring, delta: Any) -> None:
    with pytest.raises(ValueError, match="kgw_delta"):
        readiness(engine_config({"keyring": str(ring.path), "kgw_delta": delta}))
