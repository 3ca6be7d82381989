"""Quantizing a registered checkpoint: which data, which worker, and what the registry is told."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.code_version import code_version
from training.compress.data import TASK, WINDOW_TOKENS, Data, DataSelection, prepare
from training.compress.environment import ensure_environment
from training.compress.errors import NotQuantizable
from training.compress.process import run_worker
from training.compress.schemes import Scheme
from training.data import Example
from training.evaluate import Source
from training.evaluate.changes import SetChange, TaskChange
from training.outcome import Cost
from training.progress import Track, track, track_bytes
from training.registry import Checkpoint, ManifestDraft, RecipeRecord, Registry
from training.registry.manifest import NAME_PATTERN

WORKER = Path(__file__).with_name("worker.py")

WORK_PREFIX = "quantize-"
# A run that has left its folder alone for so long was killed.
WORK_ABANDONED_SECONDS = 24 * 3600

# Written anew by the compressor, or by the registry.
_NOT_COPIED = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "manifest.*", "README.md")

Losses = Mapping[str, Sequence[float]]
"""Of each set, the summed losses of its examples, in nats."""


@dataclass(frozen=True)
class Request:
    """What is wanted."""

    scheme: Scheme
    data: DataSelection = field(default_factory=DataSelection)
    name: str | None = None
    """What to register under; `SOURCE-SCHEME` by default."""


@dataclass(frozen=True)
class Outcome:
    """What a run made."""

    checkpoint: Checkpoint
    settings: dict[str, Any]
    """What the compressor chose: the group size, or how much was smoothed."""
    samples: int
    """Windows of text that it was calibrated on."""
    sets: dict[str, SetChange]
    """Perplexity before and after; the first on what was held out of the calibration file."""
    task: TaskChange | None
    bits_before: float
    """Bits a weight of the model as it was."""
    bits: float
    """Bits a weight of the quantized matrices, their scales and zero points included."""
    bits_whole: float
    """Bits a weight of the whole model."""
    bytes_before: int
    bytes_after: int
    """Size of all files."""
    cost: Cost
    losses_before: Losses
    """Not to be measured again when another scheme is tried on the same data."""
    texts: Mapping[str, Sequence[Example]]
    """What `sets` was measured on, encoded."""

    @property
    def first(self) -> SetChange:
        """What was held out of the calibration file."""
        return next(iter(self.sets.values()))


def quantize(
    source: Source,
    request: Request,
    home: Path,
    registry: Registry,
    show_progress: bool = True,
    losses_before: Losses | None = None,
) -> Outcome:
    """Compress a verified checkpoint and register the result; nothing is left behind when it fails or is interrupted.

    `losses_before` are those of another run on the same checkpoint and data. Raises CompressError, DataError,
    SourceError or RegistryError.
    """
    started = time.monotonic()
    parent = require_quantizable(source)
    name = registered_name(parent, request)
    data = prepare(parent, request.data, show_progress)
    python = ensure_environment(home / "cache", home / "logs" / "compress-environment.log", show_progress)
    with _work_folder(home / "cache") as folder:
        job = {
            "source": str(parent.path),
            "target": str(folder),
            "scheme": request.scheme.as_job(),
            "calibration": data.windows,
            "evaluation": data.for_worker(),
            # Measured once, where several schemes are tried on the same data.
            "before": losses_before is None,
        }
        with _Steps(show_progress) as steps:
            result = run_worker([str(python), "-I", str(WORKER)], job, home / "logs" / "quantize.log", steps)
        copy_companions(parent.path, folder)
        # Before the registry moves the folder away.
        sizes = _size(parent.path), _size(folder)
        before = losses_before or result["before"]
        sets, task = _changes(data, before, result["after"])
        draft = _describe(parent, request, data, result, sets, task)
        with track_bytes(f"Registering {name}", show_progress) as on_progress:
            checkpoint = registry.register(folder, name, draft, on_progress)
    return Outcome(
        checkpoint,
        settings=result["settings"],
        samples=len(data.windows),
        sets=sets,
        task=task,
        bits_before=result["bits"]["source"],
        bits=result["bits"]["matrices"],
        bits_whole=result["bits"]["whole"],
        bytes_before=sizes[0],
        bytes_after=sizes[1],
        cost=Cost(time.monotonic() - started, sum(map(len, data.windows)), result["peak_bytes"]),
        losses_before=before,
        texts=data.sets,
    )


def _changes(data: Data, before: Losses, after: Losses) -> tuple[dict[str, SetChange], TaskChange | None]:
    sets = {
        name: SetChange.of(before[name], after[name], [example.num_targets for example in examples])
        for name, examples in data.sets.items()
    }
    if data.questions is None:
        return sets, None
    return sets, TaskChange.of(data.questions.right(before[TASK]), data.questions.right(after[TASK]))


def require_quantizable(source: Source) -> Checkpoint:
    """Return the checkpoint behind the source; raises NotQuantizable unless it is whole, plain and registered."""
    checkpoint = source.checkpoint
    if checkpoint is None:
        raise NotQuantizable(
            f"{source.identity.ref} is not in the registry: give NAME@VERSION of a registered checkpoint"
        )
    if checkpoint.manifest.kind == "adapter":
        raise NotQuantizable(f"{checkpoint.ref} is an adapter: train with `output: merged`, and quantize that")
    # Imported checkpoints may be quantized without their manifest saying so.
    config = json.loads((checkpoint.path / "config.json").read_bytes())
    if checkpoint.manifest.kind == "quantized" or "quantization_config" in config:
        origin = checkpoint.manifest.parents[0].ref if checkpoint.manifest.parents else "the model it was made from"
        raise NotQuantizable(f"{checkpoint.ref} is quantized already: quantize {origin} instead")
    return checkpoint


def registered_name(parent: Checkpoint, request: Request) -> str:
    """The name to register under; raises NotQuantizable before any work where the registry would refuse it after."""
    name = request.name or f"{parent.manifest.name}-{request.scheme.name}"
    if not re.fullmatch(NAME_PATTERN, name):
        raise NotQuantizable(
            f"{name!r} is not a checkpoint name: give another with --name, "
            "of at most 63 lower-case letters, digits, '.', '_' and '-'"
        )
    return name


def copy_companions(source: Path, target: Path) -> None:
    """Take tokenizer, chat template and the like from the source, byte for byte, where the target lacks them."""
    for path in source.iterdir():
        copied = path.is_file() and not any(path.match(pattern) for pattern in _NOT_COPIED)
        if copied and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _describe(
    parent: Checkpoint,
    request: Request,
    data: Data,
    result: dict[str, Any],
    sets: Mapping[str, SetChange],
    task: TaskChange | None,
) -> ManifestDraft:
    manifest = parent.manifest
    settings = {
        "scheme": request.scheme.name,
        **result["settings"],
        "samples": len(data.windows),
        "window_tokens": WINDOW_TOKENS,
    }
    first, *others = sets.items()
    evaluation = {
        "perplexity_before": first[1].before,
        "perplexity_after": first[1].after,
        "heldout_tokens": float(first[1].tokens),
        "bits_per_weight": result["bits"]["matrices"],
    }
    for name, change in others:
        evaluation |= change.ratio.figures(f"perplexity_ratio_{name}")
    if task is not None:
        evaluation |= {"task_accuracy_before": task.before.value, **task.after.figures("task_accuracy")}
    return ManifestDraft(
        kind="quantized",
        # Of a fine-tuned model, the one that it goes back to; `parents` names the model itself.
        base=manifest.base or manifest.as_ref(),
        parents=[manifest.as_ref()],
        recipe=RecipeRecord(name="quantize", settings=settings),
        data=data.digests,
        code_version=code_version(),
        evaluation=evaluation,
        # It takes its parent's place in front of the same users.
        drift_reference=manifest.drift_reference,
        license=manifest.license,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


@contextmanager
def _work_folder(cache: Path) -> Iterator[Path]:
    """An empty folder beside the registry, gone afterwards unless it was moved away."""
    cache.mkdir(parents=True, exist_ok=True)
    for work in cache.glob(f"{WORK_PREFIX}*"):
        if work.stat().st_mtime < time.time() - WORK_ABANDONED_SECONDS:
            shutil.rmtree(work, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=WORK_PREFIX) as created:
        folder = Path(created) / "checkpoint"
        folder.mkdir()
        yield folder


class _Steps:
    """The worker's steps as progress, one bar after the other."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._step = ""
        self._open: Any = None
        self._track: Track | None = None

    def __enter__(self) -> _Steps:
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self._close()
            self._step = step
            self._open = track(step, self._enabled)
            self._track = self._open.__enter__()
        assert self._track is not None
        self._track(done, total)

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None
