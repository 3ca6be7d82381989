"""Compress one model. Runs where llmcompressor is, which is not where Signet is: imports nothing of ours.

    python -I worker.py <job.json

The job is one line of JSON on standard input, with the keys of `Job`. Standard output is one JSON object a line:

    {"event": "progress", "step": "Quantizing", "done": 3, "total": 31}
    {"event": "refused", "reason": "..."}
    {"event": "result", "perplexity_before": 12.5, "perplexity_after": 12.9, "tokens": 1035, "settings": {...}}

What the libraries say goes to standard error. When standard input ends, nobody waits for the result any more, and the
program ends too.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

# Weights of one group share a scale. 64 first: half the error of 128 for 0.12 bits more a weight.
GROUP_SIZES = (64, 32)

# The output layer is left as it is: it costs most quality for least space, and is often shared with the embeddings.
IGNORED_LAYERS = ("lm_head",)

# The exit code when nobody waits for the result any more.
ORPHANED = 3

# Labels of tokens that are read and not scored, as PyTorch's cross-entropy has it.
UNSCORED = -100

# How much of the spread of activations is moved into the weights before both are rounded to 8 bits (SmoothQuant). A few
# columns are far larger than the others, and one scale a token has to reach them all: without, the default model
# loses 5% of perplexity, with, 1%. Bringing GPTQ in as well gains nothing more.
SMOOTHING_STRENGTH = 0.8

# How scales are chosen for GPTQ: by the squared error, weighted with how much each column is used, over 20 ranges from
# the largest weight of a group down to 0.6 of it. Against the largest weight alone it takes away half of GPTQ's
# loss of perplexity; wider or finer searches cost time and bring nothing.
SCALE_SEARCH = {"observer": "imatrix_mse", "observer_kwargs": {"maxshrink": 0.4, "grid": 20}}


class Refused(Exception):
    """This model cannot be compressed in this way; says why."""


@dataclass(frozen=True)
class Job:
    """What to do. Token ids, not text: the chats have been through the chat template."""

    source: str
    """Folder of the model."""
    target: str
    """Folder to write the weights and `config.json` to."""
    scheme: str
    """`w8a8` or `w4a16-gptq`."""
    calibration: list[list[int]]
    """Token ids of texts like those to come."""
    evaluation: list[dict[str, list[int]]]
    """`input_ids` and `labels`, for the perplexity before and after."""


class Reporter:
    """Messages to whoever started us."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel

    def send(self, event: str, **content: Any) -> None:
        self._channel.write(json.dumps({"event": event, **content}) + "\n")
        self._channel.flush()

    def progress(self, step: str) -> Callable[[int, int], None]:
        """A function to call with how much of the step is done, and of how much."""
        return lambda done, total: self.send("progress", step=step, done=done, total=total)


def main() -> int:
    """Read the job, do it, report."""
    reporter = Reporter(claim_stdout())
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=end_with_stdin, daemon=True).start()
    try:
        reporter.send("result", **run(job, reporter))
    except Refused as refusal:
        reporter.send("refused", reason=str(refusal))
    return 0


def run(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Measure, compress, measure again: what is on the disk, both times."""
    before = perplexity(job.source, job.evaluation, reporter.progress("Perplexity before"))
    settings = compress(job, reporter.progress("Quantizing"))
    after = perplexity(job.target, job.evaluation, reporter.progress("Perplexity after"))
    tokens = sum(label != UNSCORED for example in job.evaluation for label in example["labels"][1:])
    return {"perplexity_before": before, "perplexity_after": after, "tokens": tokens, "settings": settings}


def compress(job: Job, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write the compressed model to the job's target; returns what was chosen for it."""
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(job.source, dtype="auto", local_files_only=True)
    if job.scheme == "w8a8":
        settings, recipe = {"smoothing_strength": SMOOTHING_STRENGTH}, smoothed_int8()
    else:
        group_size = common_group_size(linear_columns(model))
        settings, recipe = {"group_size": group_size}, gptq_int4(group_size)
    on_progress(0, model.config.num_hidden_layers)
    oneshot(
        model=model,
        recipe=[*recipe, layer_counter(model, on_progress)],
        dataset=batches(job.calibration),
        num_calibration_samples=len(job.calibration),
        pipeline="sequential",
    )
    # Settings that transformers finds odd would make it raise here; the source's file is copied beside the weights.
    model.generation_config = GenerationConfig()
    model.save_pretrained(job.target, save_compressed=True)
    Path(job.target, "generation_config.json").unlink(missing_ok=True)
    # llmcompressor's own record; ours is the manifest.
    Path(job.target, "recipe.yaml").unlink(missing_ok=True)
    return settings


def smoothed_int8() -> list[Any]:
    """Weights to the nearest of 255 steps a row, activations likewise a token as they come."""
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    return [
        SmoothQuantModifier(smoothing_strength=SMOOTHING_STRENGTH),
        QuantizationModifier(targets="Linear", scheme="W8A8", ignore=list(IGNORED_LAYERS)),
    ]


def gptq_int4(group_size: int) -> list[Any]:
    """Weights to 15 steps a group, each column's error made up for by the columns after it."""
    from llmcompressor.modifiers.gptq import GPTQModifier

    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": group_size,
        **SCALE_SEARCH,
    }
    groups = {"int4": {"targets": ["Linear"], "weights": weights}}
    return [GPTQModifier(config_groups=groups, ignore=list(IGNORED_LAYERS))]


def layer_counter(model: Any, on_progress: Callable[[int, int], None]) -> Any:
    """A modifier that changes nothing and is told after every layer."""
    from llmcompressor.modifiers import Modifier

    total = model.config.num_hidden_layers

    class LayerCounter(Modifier):  # type: ignore[misc]
        done: int = 0

        def on_initialize(self, state: Any, **kwargs: Any) -> bool:
            return True

        def on_finalize(self, state: Any, **kwargs: Any) -> bool:
            return True

        def on_sequential_epoch_end(self, state: Any, event: Any, modules: Any, **kwargs: Any) -> None:
            self.done += 1
            if self.done <= total:  # what lies behind the last layer comes as one more
                on_progress(self.done, total)

    return LayerCounter()


def linear_columns(model: Any) -> dict[str, int]:
    """The width of every weight matrix that is to be quantized."""
    import torch

    return {
        name: module.in_features
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] not in IGNORED_LAYERS
    }


def common_group_size(columns: dict[str, int]) -> int:
    """The first group size that divides the columns of every matrix; raises Refused."""
    for size in GROUP_SIZES:
        if all(width % size == 0 for width in columns.values()):
            return size
    name = next(name for name, width in columns.items() if width % GROUP_SIZES[-1])
    raise Refused(
        f"no group size of {' or '.join(map(str, GROUP_SIZES))} divides the {columns[name]} columns of {name}: "
        "use the scheme w8a8, which has no groups"
    )


def batches(calibration: Sequence[Sequence[int]]) -> Any:
    """One text a batch, so that none needs padding."""
    import torch
    from torch.utils.data import DataLoader

    def collate(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        ids = torch.tensor([list(row) for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return DataLoader(list(calibration), batch_size=1, collate_fn=collate)


def perplexity(folder: str, examples: Sequence[dict[str, list[int]]], on_progress: Callable[[int, int], None]) -> float:
    """exp of the mean negative log-likelihood, in nats, over the labelled tokens: as `signet evaluate` has it."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # CPUs are slower in bf16 than in fp32, GPUs several times faster.
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for done, example in enumerate(examples, start=1):
            input_ids = torch.tensor([example["input_ids"]], device=device)
            labels = torch.tensor(example["labels"][1:], device=device)
            logits = model(input_ids=input_ids).logits[0, :-1].float()
            total += cross_entropy(logits, labels, ignore_index=UNSCORED, reduction="sum").item()
            tokens += int((labels != UNSCORED).sum())
            on_progress(done, len(examples))
    return math.exp(total / tokens)


def claim_stdout() -> TextIO:
    """Keep standard output for our messages, and send what libraries print to standard error."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def end_with_stdin() -> None:
    """Wait until whoever started us closes our standard input or dies, then end at once."""
    sys.stdin.read()
    os._exit(ORPHANED)


if __name__ == "__main__":
    # At once, and not through the interpreter's end, which would wait for the thread that reads.
    code = main()
    sys.stderr.flush()
    os._exit(code)
