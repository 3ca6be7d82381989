"""Whether and how this engine can mark, seen from its configuration: the same answer in each of its processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from serving.engine.plugin.arguments import GREEN_SCHEMES, SCHEMES
from serving.provenance.keyring import Keyring
from serving.provenance.schemes import lefthash
from serving.provenance.schemes.kgw import DEFAULT_DELTA

GROUP = "vllm.logits_processors"
CHOOSER, GREEN = "MarkProcessor", "GreenProcessor"
CONFIG_SECTION = "signet"
UNSEEN = "this process has not seen the engine's configuration: marks need vLLM's OpenAI server"
NO_KEYRING = """this engine has no keyring: start it with --additional-config '{"signet": {"keyring": "PATH"}}'"""
NOT_LOADED = "vLLM did not load {}, as its environment's installation of Signet does not name it: install Signet anew"
POOLING = "a pooling model writes no text"
CPU_ONLY = "they are made by CPU engines only; kgw is made here"
# Two answers to one question share their opening with a chance of exp(-4.6), one in a hundred.
DEFAULT_OPENING_NATS = 4.6
NUMBERS = {"opening_nats": DEFAULT_OPENING_NATS, "kgw_delta": DEFAULT_DELTA}
# Green tokens would be all that is ever said.
MOST_DELTA = 20.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """The keyring to mark with, or why there is none."""

    keyring: Keyring | None
    refusal: str = ""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Schemes that this engine cannot mark with all the same, and why."""
    opening_nats: float = DEFAULT_OPENING_NATS
    kgw_delta: float = DEFAULT_DELTA
    runner_v2: bool = False

    def require(self) -> Keyring:
        """The keyring. Raises ValueError, which vLLM turns into HTTP 400."""
        if self.keyring is None:
            raise ValueError(f"cannot mark: {self.refusal}")
        return self.keyring

    @property
    def schemes(self) -> tuple[str, ...]:
        """What it can mark with."""
        return tuple(name for name in SCHEMES if self.keyring is not None and name not in self.lacks)


def readiness(vllm_config: Any) -> Readiness:
    """Read the engine's configuration and the keyring it names.

    Raises KeyringError or ValueError for a keyring or setting that is there and wrong: such an engine must not start.
    """
    section = _section(vllm_config)
    path = section.get("keyring")
    if path is None:
        return Readiness(None, NO_KEYRING)
    refusal = _unsupported(vllm_config)
    if refusal:
        return Readiness(None, refusal)
    opening, delta = (float(section.get(name, default)) for name, default in NUMBERS.items())
    if not 0 < delta <= MOST_DELTA:
        raise ValueError(f"--additional-config: kgw_delta must be above 0 and at most {MOST_DELTA}, not {delta}")
    runner_v2 = bool(vllm_config.use_v2_model_runner)
    return Readiness(Keyring.open(Path(path)), "", _lacks(vllm_config), opening, delta, runner_v2)


def _section(vllm_config: Any) -> dict[str, Any]:
    additional = vllm_config.additional_config
    section = additional.get(CONFIG_SECTION, {}) if isinstance(additional, dict) else {}
    if not isinstance(section, dict) or not section.keys() <= {"keyring", *NUMBERS}:
        takes = f"keyring, {' and '.join(NUMBERS)}"
        raise ValueError(f"--additional-config: {CONFIG_SECTION!r} takes {takes}, not {section!r}")
    return section


def _unsupported(vllm_config: Any) -> str:
    """Where an answer would come out unmarked in silence, say no beforehand."""
    if vllm_config.model_config.runner_type == "pooling":
        return POOLING
    if not _is_loaded(CHOOSER, vllm_config):
        return NOT_LOADED.format(CHOOSER)  # it is also what checks requests
    if vllm_config.speculative_config is not None:
        return "under speculative decoding vLLM runs no logits processors"
    if vllm_config.use_v2_model_runner:
        return ""  # it keeps every token on the device, where the marks are made
    if vllm_config.device_config.device_type != "cpu":
        return "on GPUs this release marks on vLLM's model runner V2 only: start with VLLM_USE_V2_MODEL_RUNNER=1"
    if vllm_config.scheduler_config.async_scheduling:
        return "under asynchronous scheduling the last token is not known in time: start with --no-async-scheduling"
    return ""


def _lacks(vllm_config: Any) -> dict[str, str]:
    """The schemes whose answers would come out unmarked in silence, and why."""
    if vllm_config.use_v2_model_runner:
        return {lefthash.NAME: CPU_ONLY}  # `MarkProcessor` makes the other green list there itself
    return {} if _is_loaded(GREEN, vllm_config) else dict.fromkeys(sorted(GREEN_SCHEMES), NOT_LOADED.format(GREEN))


def _is_loaded(processor: str, vllm_config: Any) -> bool:
    """Whether vLLM builds this processor of ours: one of an entry point, or of `--logits-processors`."""
    further = vllm_config.model_config.logits_processors or ()
    named = [entry.value for entry in entry_points(group=GROUP)]
    named += [item if isinstance(item, str) else f"{item.__module__}:{item.__name__}" for item in further]
    return any(name.startswith("serving.engine.plugin") and name.endswith(f":{processor}") for name in named)
