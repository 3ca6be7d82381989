"""What `signet plan` says of accelerators against what others measured on them and published.

    python -m loadtests.benchmarks.planner_published --out docs/benchmarks/planner.md

Nothing is run: each row is a figure with its source and date. Rows marked `fit` were used to choose the shares in
`monitoring/plan/efficiency.py` and `memory.py`; the others only judge them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from loadtests.benchmarks.planner import Row
from monitoring.plan.accelerators import ACCELERATORS, GIB
from monitoring.plan.memory import Memory, memory_of
from monitoring.plan.roofline import Roofline
from monitoring.plan.shape import read_shape
from monitoring.plan.weights import Weights, weights_of
from training.studies.sections import table_head, write_section

TITLE = "Accelerators"

_LLAMA_8B: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
_LLAMA_70B = {**_LLAMA_8B, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
_LLAMA_70B["num_hidden_layers"] = 80
_QWEN = {**_LLAMA_8B, "model_type": "qwen3", "head_dim": 128, "vocab_size": 151936}
_QWEN3_8B = {**_QWEN, "intermediate_size": 12288, "num_hidden_layers": 36}
_QWEN3_14B = {**_QWEN, "hidden_size": 5120, "intermediate_size": 17408, "num_attention_heads": 40}
_QWEN3_14B["num_hidden_layers"] = 40

_SILYBENCH = "silybench-data, vLLM, 2026-09-24"
_TRTLLM = "TensorRT-LLM 1.0, perf-overview.md, 2025"
_ML_ENERGY = "ML.ENERGY leaderboard, vLLM of 2025"
_VLLM_LOG = "vLLM pull request 10511, 2024-12-14"


@dataclass(frozen=True)
class Published:
    """One measurement of somebody else's."""

    what: str
    planned: Callable[[], float]
    measured: float
    unit: str
    bar: float
    source: str
    is_fitted: bool = False

    def line(self) -> str:
        row = Row(self.what, self.planned(), self.measured, self.unit, self.bar)
        return f"{row.line()} {self.source}{'; fit' if self.is_fitted else ''} |"


def _plan(
    config: Mapping[str, Any], accelerator: str, precision: str = "auto", devices: int = 1, kv_bytes: int | None = None
) -> tuple[Weights, Memory, Roofline]:
    device = ACCELERATORS[accelerator]
    weights = weights_of(config, read_shape(config), precision)
    memory = memory_of(weights, device, devices=devices, kv_bytes=kv_bytes)
    return weights, memory, Roofline(weights, device, devices, memory.kv_per_token * devices)


def _token_ms(config: Mapping[str, Any], accelerator: str, precision: str, answers: float, context: float) -> float:
    return 1000 * _plan(config, accelerator, precision)[2].step_s(answers, context)


def _full(config: Mapping[str, Any], accelerator: str, devices: int, prompt: int, answer: int) -> float:
    """Tokens a second of answers with as many at once as the cache holds, each replaced as it ends. FP8, cache too."""
    _, memory, engine = _plan(config, accelerator, "fp8", devices, kv_bytes=1)
    answers = min(memory.answers(prompt + answer), 4096)
    cycle = answer * engine.step_s(answers, prompt + answer / 2) + answers * engine.prompt_s(prompt)
    return answers * answer / cycle


def _cache_gib(devices: int, utilization: float) -> float:
    weights = weights_of(_LLAMA_8B, read_shape(_LLAMA_8B), "auto")
    return memory_of(weights, ACCELERATORS["h100"], devices=devices, utilization=utilization).cache / GIB


def _weights_gib(devices: int) -> float:
    return _plan(_LLAMA_8B, "h100", devices=devices)[1].weights / GIB


def _memory_rows() -> list[Published]:
    of = "Llama 3 8B"
    return [
        Published(f"{of}, weights", partial(_weights_gib, 1), 14.96, "GiB", 0.1, _VLLM_LOG),
        Published(f"{of}, cache of one H100 at 90%", partial(_cache_gib, 1, 0.9), 53.29, "GiB", 0.1, _VLLM_LOG, True),
        Published(f"{of}, cache of each of two", partial(_cache_gib, 2, 0.9), 58.97, "GiB", 0.1, _VLLM_LOG, True),
        Published(
            f"{of}, cache of one H100 at 95%",
            partial(_cache_gib, 1, 0.95),
            58,
            "GiB",
            0.1,
            "llm-d-planner pull request 205, 2026-04-24",
            True,
        ),
    ]


def _token_rows() -> list[Published]:
    def row(
        config: Mapping[str, Any],
        name: str,
        accelerator: str,
        precision: str,
        answers: float,
        context: float,
        ms: float,
        source: str,
        is_fitted: bool = False,
    ) -> Published:
        planned = partial(_token_ms, config, accelerator, precision, answers, context)
        what = f"{name}, {precision}, {accelerator}, {answers:g} at once"
        return Published(what, planned, ms, "ms", 0.25, source, is_fitted)

    alone = "yobitelcomm.github.io/bench, vLLM 0.21, 2026-05-16"
    return [
        row(_LLAMA_8B, "Llama 3.1 8B", "h100", "fp16", 1, 200, 6.48, alone, True),
        row(_LLAMA_8B, "Llama 3.1 8B", "h100", "fp16", 4, 200, 6.59, alone),
        row(_QWEN3_8B, "Qwen3 8B", "h100", "fp8", 1, 3072, 4.796, _SILYBENCH, True),
        row(_QWEN3_8B, "Qwen3 8B", "h100", "fp8", 4, 3072, 5.319, _SILYBENCH),
        row(_QWEN3_8B, "Qwen3 8B", "h100", "fp8", 16, 3072, 7.217, _SILYBENCH),
        row(_LLAMA_8B, "Llama 3.1 8B", "a100-40gb", "bf16", 1, 1088, 1000 / 75, "johnmusgrave.com, vLLM 0.23, 2026"),
        row(_QWEN3_14B, "Qwen3 14B", "b200", "bf16", 7.94, 500, 7.156, _ML_ENERGY),
        row(_QWEN3_14B, "Qwen3 14B", "b200", "bf16", 15.95, 500, 7.842, _ML_ENERGY),
        row(_LLAMA_8B, "Llama 3.1 8B", "h100", "bf16", 510.9, 400, 47.4, _ML_ENERGY),
        row(_LLAMA_8B, "Llama 3.1 8B", "b200", "bf16", 2042.9, 400, 124.9, _ML_ENERGY),
    ]


def _full_rows() -> list[Published]:
    def row(
        config: Mapping[str, Any], name: str, accelerator: str, devices: int, prompt: int, answer: int, speed: float
    ) -> Published:
        planned = partial(_full, config, accelerator, devices, prompt, answer)
        what = f"{name}, fp8, {devices} x {accelerator}, full, {prompt:,} + {answer:,} tokens"
        return Published(what, planned, speed, "tokens/s", 0.25, _TRTLLM, (accelerator, prompt) == ("h100", 2048))

    eight, seventy = (_LLAMA_8B, "Llama 3.1 8B"), (_LLAMA_70B, "Llama 3.3 70B")
    return [
        row(*eight, "h100", 1, 128, 2048, 22_714),
        row(*eight, "h100", 1, 1000, 1000, 15_220),
        row(*eight, "h100", 1, 2048, 128, 3_450),
        row(*eight, "h100", 1, 2048, 2048, 9_305),
        row(*eight, "h100", 1, 20_000, 2000, 1_351),
        row(*eight, "h200", 1, 1000, 1000, 17_744),
        row(*eight, "h200", 1, 2048, 128, 3_538),
        row(*eight, "h200", 1, 5000, 500, 3_902),
        row(*seventy, "h100", 2, 1000, 1000, 4_205),
        row(*seventy, "h100", 2, 2048, 128, 762),
        row(*seventy, "h200", 1, 1000, 1000, 2_909),
        row(*seventy, "h200", 1, 2048, 128, 442),
    ]


def rows() -> list[Published]:
    """Memory, then answers of few and of many at once, then engines as full as they go."""
    return [*_memory_rows(), *_token_rows(), *_full_rows()]


def section() -> str:
    """For the page of the planner."""
    head = table_head("figure", "planned", "published", "planned ÷ published", "bar", "source")
    return "\n".join(["`python -m loadtests.benchmarks.planner_published`", "", *head, *(row.line() for row in rows())])


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Page whose section is replaced.")
def main(out: Path | None) -> None:
    """Compare the plan for accelerators with published measurements."""
    text = section()
    click.echo(text)
    if out is not None:
        write_section(out, TITLE, text)


if __name__ == "__main__":
    main()
