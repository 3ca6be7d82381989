"""Which engines can mark: each that cannot says why, and none starts with a keyring that is wrong."""

from collections.abc import Callable
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams

from serving.engine.plugin import GreenProcessor, MarkAnnouncement, MarkProcessor
from serving.engine.plugin import readiness as readiness_module
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


CPU_SCHEMES = ("gumbel", "dual-gumbel", "kgw", "synthid", "kgw-lefthash")
CHOOSING = ("gumbel", "dual-gumbel", "synthid")


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the environment have only these of our entry points, as an older installation of Signet would."""
    ours = [entry for entry in entry_points(group=readiness_module.GROUP) if entry.name in names]
    assert len(ours) == len(names)
    monkeypatch.setattr(readiness_module, "entry_points", lambda group: ours)


@pytest.mark.parametrize(
    ("names", "change", "schemes"),
    [
        pytest.param(["signet_mark", "signet_green"], {}, CPU_SCHEMES, id="both"),
        pytest.param(["signet_mark"], {}, CHOOSING, id="no-green-list"),
        pytest.param(["signet_green"], {}, (), id="nobody-checks-requests"),
        pytest.param([], {}, (), id="none"),
        pytest.param(["signet_mark"], {"use_v2_model_runner": True}, (*CHOOSING[:2], "kgw", "synthid"), id="gpu"),
    ],
)
def test_only_what_vllm_loads_is_announced(
    engine_config: EngineConfig,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    change: dict[str, Any],
    schemes: tuple[str, ...],
) -> None:
    installed(monkeypatch, *names)

    assert readiness(engine_config(**change)).schemes == schemes


def test_a_processor_named_on_the_command_line_is_loaded(
    engine_config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, "signet_mark")
    named = ["somebody.elses:GreenProcessor", "serving.engine.plugin.green:GreenProcessor"]
    parts = {"seed": 0, "runner_type": "generate"}

    for processors, has in ((named, True), (named[:1], False), ([GreenProcessor], True)):
        config = engine_config(model_config=SimpleNamespace(**parts, logits_processors=processors))
        assert ("kgw" in readiness(config).schemes) == has


def test_a_pooling_engine_marks_nothing(engine_config: EngineConfig) -> None:
    pooling = SimpleNamespace(seed=0, runner_type="pooling", logits_processors=None)

    assert readiness(engine_config(model_config=pooling)).schemes == ()


def test_a_scheme_whose_processor_is_not_loaded_is_refused(
    engine_config: EngineConfig, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the answer would go out unmarked, under a header that says it is marked."""
    installed(monkeypatch, "signet_mark")
    MarkAnnouncement(engine_config(), engine_index=1)
    key = ring.mark_key("acme")

    for scheme in CPU_SCHEMES:
        params = SamplingParams(extra_args={"signet_mark": scheme, "signet_key": key.permit(scheme)})
        if scheme in CHOOSING:
            MarkProcessor.validate_params(params)
        else:
            with pytest.raises(ValueError, match=f"makes no {scheme} marks: vLLM did not load GreenProcessor"):
                MarkProcessor.validate_params(params)
