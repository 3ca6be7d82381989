"""An engine's configuration in small, and a keyring for it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessors
from vllm.v1.sample.metadata import SamplingMetadata

from serving.engine.plugin import MarkProcessor
from serving.provenance import Keyring
from tests.serving.provenance.fixed_keyring import fixed_keyring

EngineConfig = Callable[..., Any]


@pytest.fixture(autouse=True)
def _unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin keeps what it saw of the engine on the class: give each test its own."""
    monkeypatch.setattr(MarkProcessor, "ready", MarkProcessor.ready)


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    torch.manual_seed(0)  # rows without a seed are sampled by it
    return fixed_keyring(tmp_path)


@pytest.fixture
def engine_config(ring: Keyring) -> EngineConfig:
    """What the plugin reads of a `VllmConfig`; keyword arguments change parts of it."""

    def make(section: dict[str, Any] | None = None, **changes: Any) -> Any:
        parts = {
            "additional_config": {"signet": {"keyring": str(ring.path)} if section is None else section},
            "speculative_config": None,
            "use_v2_model_runner": False,
            "model_config": SimpleNamespace(
                seed=0, runner_type="generate", logits_processors=None, get_diff_sampling_param=dict
            ),
            "device_config": SimpleNamespace(device_type="cpu"),
            "scheduler_config": SimpleNamespace(async_scheduling=False),
        }
        return SimpleNamespace(**(parts | changes))

    return make


@pytest.fixture
def metadata() -> Callable[..., SamplingMetadata]:
    """What vLLM's model runner would hand to the sampler for some rows."""
    return sampling_metadata


def sampling_metadata(processors: LogitsProcessors, rows: list[SamplingParams], vocabulary: int) -> SamplingMetadata:
    temperature = torch.tensor([row.temperature for row in rows])
    greedy = temperature < 1e-5
    top_k = torch.tensor([row.top_k if row.top_k > 0 else vocabulary for row in rows])
    generators = {i: torch.Generator().manual_seed(row.seed) for i, row in enumerate(rows) if row.seed is not None}
    return SamplingMetadata(
        temperature=temperature,
        all_greedy=bool(greedy.all()),
        all_random=bool((~greedy).all()),
        top_p=torch.tensor([row.top_p for row in rows]),
        top_k=top_k,
        generators=generators,
        max_num_logprobs=None,
        no_penalties=True,
        prompt_token_ids=None,
        frequency_penalties=torch.zeros(len(rows)),
        presence_penalties=torch.zeros(len(rows)),
        repetition_penalties=torch.ones(len(rows)),
        output_token_ids=[],
        allowed_token_ids_mask=None,
        bad_words_token_ids={},
        logitsprocs=processors,
    )
