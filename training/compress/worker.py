"""Compress one model. Runs where llmcompressor is, which is not where Signet is: imports nothing of ours, and is one
file (docs/decisions/051-one-file-compresses.md).

    python -I worker.py job.json

The job is a JSON object with the keys of `Job`. Standard output is one JSON object a line:

    {"event": "progress", "step": "Quantizing", "done": 3, "total": 31}
    {"event": "refused", "reason": "..."}
    {"event": "result", "before": {"chats": [31.2, …]}, "after": {…}, "settings": {…}, "bits": {…}, "peak_bytes": …}

What the libraries say goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

# Weights of one group share a scale. 64 first: half the error of 128 for 0.12 bits more a weight.
GROUP_SIZES = (64, 32)

# The output layer is left as it is: it costs most quality for least space, and is often shared with the embeddings.
IGNORED_LAYERS = ("lm_head",)

# Labels of tokens that are read and not scored, as PyTorch's cross-entropy has it.
UNSCORED = -100

# How much of the spread of activations is moved into the weights before both are rounded to 8 bits (SmoothQuant). A few
# columns are far larger than the others, and one scale a token has to reach them all: without, the default model
# loses 5% of perplexity, with, 1%. Bringing GPTQ in as well gains nothing more.
SMOOTHING_STRENGTH = 0.8
# The same of what is gated, whose largest values are far apart in few tokens: more makes `down_proj` lose more than it
# gains.
GATED_STRENGTH = 0.5

# How 4-bit scales are chosen: by the squared error, weighted with how much each column is used, over 20 ranges from
# the largest weight of a group down to 0.6 of it. Against the largest weight alone it takes away half of GPTQ's
# loss of perplexity; wider or finer searches cost time and bring nothing.
SCALE_SEARCH = {"observer": "imatrix_mse", "observer_kwargs": {"maxshrink": 0.4, "grid": 20}}

# Strengths that AWQ tries for each layer, each a pass of this many windows of the calibration text through the layer.
AWQ_GRID = 10
AWQ_WINDOWS = 8

# In `mixed` schemes, the share of the weights that stay in 8 bits: for 0.4 bits more a weight.
EIGHT_BIT_SHARE = 0.1

# Matrices that engines fuse into one, which then has one scheme.
FUSED = (("qkv_proj", ("q_proj", "k_proj", "v_proj")), ("gate_up_proj", ("gate_proj", "up_proj")))

INT8 = {
    "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
    "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True},
}


# Logits are held at once: 1,024 tokens x 50,000 entries x 4 bytes = 0.2 GB.
TOKENS_AT_ONCE = 1024


class Refused(Exception):
    """This model cannot be compressed in this way; says why."""


@dataclass(frozen=True)
class Scheme:
    """As `training.compress.schemes` has it."""

    method: str
    symmetric: bool
    group_size: int | None
    mixed: bool


@dataclass(frozen=True)
class Job:
    """What to do. Token ids, not text: the chats have been through the chat template."""

    source: str
    """Folder of the model."""
    target: str
    """Folder to write the weights and `config.json` to."""
    scheme: Scheme
    calibration: list[list[int]]
    """Token ids of texts like those to come."""
    evaluation: dict[str, list[dict[str, list[int]]]]
    """Sets of `input_ids` and `labels`, whose losses are measured after and, where asked for, before."""
    before: bool = True


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
    told = json.loads(Path(sys.argv[1]).read_text())
    job = Job(**told | {"scheme": Scheme(**told["scheme"])})
    try:
        reporter.send("result", **run(job, reporter))
    except Refused as refusal:
        reporter.send("refused", reason=str(refusal))
    return 0


def run(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Measure, compress, measure again: what is on the disk, both times."""
    before = losses(job.source, job.evaluation, reporter.progress("Perplexity before")) if job.before else {}
    settings = compress(job, reporter)
    after = losses(job.target, job.evaluation, reporter.progress("Perplexity after"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    return {"before": before, "after": after, "settings": settings, "bits": stored_bits(job), "peak_bytes": peak}


def compress(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Write the compressed model to the job's target; returns what was chosen for it."""
    import torch
    from llmcompressor import oneshot
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    stored = AutoConfig.from_pretrained(job.source, local_files_only=True).dtype or torch.float32
    # Without instructions for 16-bit numbers, which most CPUs lack, they take three times as long as 32-bit ones.
    dtype = stored if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job.source, dtype=dtype, local_files_only=True)
    settings, stages = plan(job, model, reporter)
    for step, modifiers, texts in stages:
        on_progress = reporter.progress(step)
        on_progress(0, model.config.num_hidden_layers)
        oneshot(
            model=model,
            recipe=[*modifiers, layer_counter(model, on_progress)],
            dataset=batches(texts),
            num_calibration_samples=len(texts),
            pipeline="sequential",
        )
    round_to(model, stored)
    # Settings that transformers finds odd would make it raise here; the source's file is copied beside the weights.
    model.generation_config = GenerationConfig()
    model.save_pretrained(job.target, save_compressed=True)
    Path(job.target, "generation_config.json").unlink(missing_ok=True)
    # llmcompressor's own record; ours is the manifest.
    Path(job.target, "recipe.yaml").unlink(missing_ok=True)
    return settings


Stage = tuple[str, list[Any], Sequence[Sequence[int]]]
"""A pass through texts: what the user is told, what is done, and the texts."""


def plan(job: Job, model: Any, reporter: Reporter) -> tuple[dict[str, Any], list[Stage]]:
    """What to record of the choices, and the passes that make them so."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    scheme = job.scheme
    settings: dict[str, Any]
    if scheme.method == "w8a8":
        settings = {"smoothing_strength": SMOOTHING_STRENGTH, "gated_smoothing_strength": GATED_STRENGTH}
        return settings, [("Quantizing", smoothed_int8(model), job.calibration)]
    group_size = group_size_for(linear_columns(model), scheme.group_size)
    settings = {"group_size": group_size, "symmetric": scheme.symmetric}
    kept: list[str] = []
    if scheme.mixed:
        kept = settings["eight_bit"] = most_sensitive(model, job.calibration, scheme, group_size, reporter)
    ignored = list(IGNORED_LAYERS)
    stages: list[Stage] = []
    if scheme.method.startswith("awq"):
        texts = job.calibration[:: max(1, len(job.calibration) // AWQ_WINDOWS)][:AWQ_WINDOWS]
        settings |= {"awq_grid": AWQ_GRID, "awq_samples": len(texts)}
        # A pass of its own: GPTQ and the search for scales must see the activations as they are after it.
        plain = QuantizationModifier(config_groups=config_groups(scheme, group_size, kept, {}), ignore=ignored)
        stages.append(("Searching (AWQ)", [awq(model), plain], texts))
    quantizer = GPTQModifier if scheme.method.endswith("gptq") else QuantizationModifier
    groups = config_groups(scheme, group_size, kept, SCALE_SEARCH)
    return settings, [*stages, ("Quantizing", [quantizer(config_groups=groups, ignore=ignored)], job.calibration)]


def smoothed_int8(model: Any) -> list[Any]:
    """Weights to the nearest of 255 steps a row, activations likewise a token as they come."""
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    return [
        SmoothQuantModifier(smoothing_strength=SMOOTHING_STRENGTH),
        gated_smoothing(model),
        QuantizationModifier(targets="Linear", scheme="W8A8", ignore=list(IGNORED_LAYERS)),
    ]


def gated_smoothing(model: Any) -> Any:
    """SmoothQuant within gated feed-forward layers, where llmcompressor has it behind norms alone.

    `down_proj` reads act(gate_proj(x)) * up_proj(x): what one of its columns is multiplied by, a row of `up_proj` is
    divided by. That costs no precision there, as each row has a scale of its own.
    """
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from llmcompressor.modifiers.transform.smoothquant.base import SmoothQuantScale

    class GatedSmoothing(SmoothQuantModifier):  # type: ignore[misc]
        def _setup_scale_hooks(self) -> None:
            # Theirs looks at what leaves the layer that is divided, which is not gated yet.
            for mapping in self.resolved_mappings_:
                self.register_hook(mapping.balance_layers[0], partial(self._see, mapping.smooth_name), "forward_pre")

        def _see(self, name: str, module: Any, inputs: tuple[Any, ...]) -> None:
            columns = inputs[0].flatten(0, -2)
            low, high = columns.amin(0), columns.amax(0)
            if name in self.scales_:
                seen = self.scales_[name]
                low, high = low.minimum(seen.min_channel_vals), high.maximum(seen.max_channel_vals)
            self.scales_[name] = SmoothQuantScale(low, high)

    mappings = [([f"{name}.down_proj"], f"{name}.up_proj") for name in gated_layers(model)]
    return GatedSmoothing(smoothing_strength=GATED_STRENGTH, mappings=mappings)


def gated_layers(model: Any) -> Iterator[str]:
    """The names of feed-forward layers that multiply two matrices' outputs before a third."""
    import torch

    parts = ("gate_proj", "up_proj", "down_proj")
    for name, module in model.named_modules():
        if all(isinstance(getattr(module, part, None), torch.nn.Linear) for part in parts):
            yield name


def awq(model: Any) -> Any:
    """Columns scaled up, and what comes before them down, by how large their activations are; raises Refused."""
    import torch
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.awq.dynamic_mappings import AWQ_DYNAMIC_MAPPING_REGISTRY
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY
    from llmcompressor.pipelines.cache import IntermediatesCache

    architecture = type(model).__name__
    if architecture not in AWQ_MAPPING_REGISTRY.keys() | AWQ_DYNAMIC_MAPPING_REGISTRY.keys():
        raise Refused(f"AWQ does not know which layers of {architecture} follow one another: use the scheme gptq")
    if not torch.cuda.is_available():
        # Pinned memory is for copies to a GPU, and cannot be had without one.
        IntermediatesCache.pin_memory = lambda *ignored: None
    return AWQModifier(n_grid=AWQ_GRID)


def config_groups(scheme: Scheme, group_size: int, kept: Sequence[str], search: Mapping[str, Any]) -> dict[str, Any]:
    """4-bit weights in groups, and the matrices that stay in 8 bits; a matrix's own name comes before its class."""
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "group",
        "group_size": group_size,
        **search,
    }
    groups: dict[str, Any] = {"int4": {"targets": ["Linear"], "weights": weights}}
    return groups | ({"int8": {"targets": list(kept), **INT8}} if kept else {})


def most_sensitive(
    model: Any, texts: Sequence[Sequence[int]], scheme: Scheme, group_size: int, reporter: Reporter
) -> list[str]:
    """The matrices whose rounding to 4 bits changes the loss most for each of their weights.

    By the diagonal of the empirical Fisher information (LeCun et al. 1989, Kim et al. 2023): the sum of (gradient x
    rounding error) squared. Matrices that an engine fuses are taken or left together.
    """
    import torch

    on_progress = reporter.progress("Measuring sensitivity")
    matrices = dict(quantized_matrices(model))
    costs: dict[str, float] = defaultdict(float)
    for done, text in enumerate(texts, start=1):
        ids = torch.tensor([list(text)], device=model.device)
        model.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        for name, module in matrices.items():
            if module.weight.grad is not None:
                error = rounding_error(module.weight.detach(), scheme.symmetric, group_size)
                costs[name] += (module.weight.grad * error).double().square().sum().item()
        on_progress(done, len(texts))
    model.zero_grad(set_to_none=True)
    return choose_kept(costs, {name: module.weight.numel() for name, module in matrices.items()}, EIGHT_BIT_SHARE)


def choose_kept(costs: Mapping[str, float], sizes: Mapping[str, int], share: float) -> list[str]:
    """The names with the largest cost for each weight, as long as they have no more than a share of all weights."""
    units: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        units[fused_name(name)].append(name)

    def cost_of_weight(unit: str) -> float:
        return sum(costs.get(name, 0) for name in units[unit]) / sum(sizes[name] for name in units[unit])

    left = share * sum(sizes.values())
    chosen: list[str] = []
    for unit in sorted(units, key=cost_of_weight, reverse=True):
        size = sum(sizes[name] for name in units[unit])
        if size <= left:
            left -= size
            chosen += units[unit]
    return sorted(chosen)


def fused_name(name: str) -> str:
    """What a matrix is called in an engine that keeps those with the same input in one."""
    parent, _, last = name.rpartition(".")
    return next((f"{parent}.{fused}" for fused, parts in FUSED if last in parts), name)


def rounding_error(weight: Any, symmetric: bool, group_size: int) -> Any:
    """A matrix minus its nearest values of 4 bits a weight, (rows, columns)."""
    groups = weight.unflatten(1, (-1, group_size))
    if symmetric:
        # As compressed-tensors has it: half of the 15 steps between -8 and 7 on each side of zero.
        scale = (groups.abs().amax(-1, keepdim=True) / 7.5).clamp_min(1e-8)
        rounded = (groups / scale).round().clamp(-8, 7) * scale
    else:
        # The range includes zero, which is then stored exactly.
        low, high = groups.amin(-1, keepdim=True).clamp_max(0), groups.amax(-1, keepdim=True).clamp_min(0)
        scale = ((high - low) / 15).clamp_min(1e-8)
        zero = (-low / scale).round()
        rounded = ((groups / scale + zero).round().clamp(0, 15) - zero) * scale
    return weight - rounded.flatten(1)


def round_to(model: Any, dtype: Any) -> None:
    """Give what is stored the model's own type; weights that are packed stay, or large ones might be packed one off."""
    for module in model.modules():
        is_quantized = getattr(module, "quantization_scheme", None) is not None
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_floating_point() and not (is_quantized and name == "weight"):
                parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


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
    return {name: module.in_features for name, module in quantized_matrices(model)}


def quantized_matrices(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers whose weights are to be quantized, by name."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] not in IGNORED_LAYERS:
            yield name, module


def group_size_for(columns: Mapping[str, int], asked: int | None) -> int:
    """The group size asked for, or the first that divides the columns of every matrix; raises Refused."""
    sizes = GROUP_SIZES if asked is None else (asked,)
    for size in sizes:
        if all(width % size == 0 for width in columns.values()):
            return size
    name = next(name for name, width in columns.items() if width % sizes[-1])
    raise Refused(
        f"no group size of {' or '.join(map(str, sizes))} divides the {columns[name]} columns of {name}: "
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


def losses(
    folder: str, sets: Mapping[str, Sequence[dict[str, list[int]]]], on_progress: Callable[[int, int], None]
) -> dict[str, list[float]]:
    """Summed negative log-likelihood, in nats, of each example's labelled tokens, as `signet evaluate` has it."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # CPUs are slower in bf16 than in fp32, GPUs several times faster.
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
    by_set = {name: [0.0] * len(examples) for name, examples in sets.items()}
    # Like lengths together, so that little padding is computed; what follows a token does not change it.
    places = [(name, number) for name, examples in sets.items() for number in range(len(examples))]
    places.sort(key=lambda place: len(sets[place[0]][place[1]]["input_ids"]))
    with torch.inference_mode():
        for start, end in batched([len(sets[name][number]["input_ids"]) for name, number in places]):
            examples = [sets[name][number] for name, number in places[start:end]]
            width = max(len(example["input_ids"]) for example in examples)
            ids = [example["input_ids"] + [0] * (width - len(example["input_ids"])) for example in examples]
            logits = model(input_ids=torch.tensor(ids, device=device), use_cache=False).logits
            for (name, number), example, row in zip(places[start:end], examples, logits, strict=True):
                labels = torch.tensor(example["labels"][1:], device=device)
                scored = labels != UNSCORED
                loss = cross_entropy(row[: len(labels)][scored].float(), labels[scored], reduction="sum")
                by_set[name][number] = loss.item()
            on_progress(end, len(places))
    return by_set


def batched(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where batches of rising lengths start and end: as many as fit when all are padded to the last, at least one."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > TOKENS_AT_ONCE:
            yield start, end
            start = end


def stored_bits(job: Job) -> dict[str, float]:
    """Bits a weight in the files: of the source, of the quantized matrices with scales and zero points, of all."""
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for module, part, _, size in tensors(job.target):
        sizes[module][part] = size
    source = list(tensors(job.source))
    counts = {module: count for module, part, count, _ in source if part == "weight"}
    quantized = [module for module in sizes if "weight_scale" in sizes[module]]
    stored = sum(
        size for module in quantized for part, size in sizes[module].items() if part not in ("bias", "weight_shape")
    )
    whole = sum(size for parts in sizes.values() for size in parts.values())
    return {
        "source": 8 * sum(size for *_, size in source) / sum(count for *_, count, _ in source),
        "matrices": 8 * stored / sum(counts[module] for module in quantized),
        "whole": 8 * whole / sum(counts[module] for module in sizes if module in counts),
    }


def tensors(folder: str) -> Iterator[tuple[str, str, int, int]]:
    """Of each tensor in a folder's files: its module, which part of it, its elements and its bytes."""
    from safetensors import safe_open

    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                module, _, part = key.rpartition(".")
                tensor = file.get_tensor(key)
                yield module, part, tensor.numel(), tensor.nbytes


def claim_stdout() -> TextIO:
    """Keep standard output for our messages, and send what libraries print to standard error."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


if __name__ == "__main__":
    sys.exit(main())
