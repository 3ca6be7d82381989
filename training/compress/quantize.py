"""Quantizing a registered checkpoint: which data, which worker, and what the registry is told."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.code_version import code_version
from training.compress.environment import ensure_environment
from training.compress.errors import NotQuantizable
from training.compress.process import run_worker
from training.data import ChatEncoder, Example, encode_all, read_chats, split_heldout
from training.evaluate import Source
from training.progress import Track, track, track_bytes
from training.registry import Checkpoint, DataDigest, ManifestDraft, RecipeRecord, Registry
from training.registry.manifest import NAME_PATTERN

Scheme = Literal["w8a8", "w4a16-gptq"]
SCHEMES: tuple[Scheme, ...] = ("w8a8", "w4a16-gptq")

WORKER = Path(__file__).with_name("worker.py")
CALIBRATION = Path(__file__).with_name("calibration.jsonl")
"""Everyday chats, made for this purpose: what a general model is calibrated on."""

# The compressor looks at this many tokens at a time. Longer texts cost more and bring nothing measurable.
WINDOW_TOKENS = 256
# The part of the chats, chosen by their hashes, that is measured on and not calibrated on.
HELDOUT_FRACTION = 0.25
MAX_CHAT_TOKENS = 2048

WORK_PREFIX = "quantize-"
# A run that has left its folder alone for so long was killed.
WORK_ABANDONED_SECONDS = 24 * 3600

# Written anew by the compressor, or by the registry.
_NOT_COPIED = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "manifest.*", "README.md")


@dataclass(frozen=True)
class Request:
    """What is wanted."""

    scheme: Scheme
    calibration: Path = CALIBRATION
    samples: int = 64
    """Windows of calibration text at most, of 256 tokens each."""
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
    perplexity_before: float
    perplexity_after: float
    tokens: int
    """Assistant tokens that perplexity was taken over."""
    bytes_before: int
    bytes_after: int
    """Size of all files."""
    seconds: float


@dataclass(frozen=True)
class _Data:
    windows: list[list[int]]
    evaluation: list[Example]
    digests: list[DataDigest]


def quantize(source: Source, request: Request, home: Path, registry: Registry, show_progress: bool = True) -> Outcome:
    """Compress a verified checkpoint and register the result; nothing is left behind when it fails or is interrupted.

    Raises CompressError, DataError, SourceError or RegistryError.
    """
    started = time.monotonic()
    parent = require_quantizable(source)
    name = registered_name(parent, request)
    data = _prepare(parent, request, show_progress)
    python = ensure_environment(home / "cache", home / "logs" / "compress-environment.log", show_progress)
    with _work_folder(home / "cache") as folder:
        job = {
            "source": str(parent.path),
            "target": str(folder),
            "scheme": request.scheme,
            "calibration": data.windows,
            "evaluation": [{"input_ids": each.input_ids, "labels": each.labels} for each in data.evaluation],
        }
        with _Steps(show_progress) as steps:
            result = run_worker([str(python), "-I", str(WORKER)], job, home / "logs" / "quantize.log", steps)
        copy_companions(parent.path, folder)
        sizes = _size(parent.path), _size(folder)
        draft = _describe(parent, request, data, result)
        with track_bytes(f"Registering {name}", show_progress) as on_progress:
            checkpoint = registry.register(folder, name, draft, on_progress)
    return Outcome(checkpoint, samples=len(data.windows), bytes_before=sizes[0], bytes_after=sizes[1],
                   seconds=time.monotonic() - started, **result)  # fmt: skip


def require_quantizable(source: Source) -> Checkpoint:
    """Return the checkpoint behind the source; raises NotQuantizable unless it is whole, plain and registered."""
    checkpoint = source.checkpoint
    if checkpoint is None:
        raise NotQuantizable(
            f"{source.identity.ref} is not in the registry: give NAME@VERSION of a registered checkpoint"
        )
    if checkpoint.manifest.kind == "adapter":
        raise NotQuantizable(f"{checkpoint.ref} is an adapter: train with `output: merged`, and quantize that")
    config = json.loads((checkpoint.path / "config.json").read_bytes())
    if checkpoint.manifest.kind == "quantized" or "quantization_config" in config:
        origin = checkpoint.manifest.parents[0].ref if checkpoint.manifest.parents else "the model it was made from"
        raise NotQuantizable(f"{checkpoint.ref} is quantized already: quantize {origin} instead")
    return checkpoint


def registered_name(parent: Checkpoint, request: Request) -> str:
    """The name to register under; raises NotQuantizable before any work where the registry would refuse it after."""
    name = request.name or f"{parent.manifest.name}-{request.scheme}"
    if not re.fullmatch(NAME_PATTERN, name):
        raise NotQuantizable(
            f"{name!r} is no name for a checkpoint: give another with --name, "
            "of at most 63 small letters, digits, '.', '_' and '-'"
        )
    return name


def _prepare(parent: Checkpoint, request: Request, show_progress: bool) -> _Data:
    """Read and encode the chats: some to calibrate on, the others to measure on."""
    # transformers takes seconds to import, and a bad name or file should be told at once.
    file = read_chats(request.calibration)
    train, heldout = split_heldout(file.chats, HELDOUT_FRACTION)
    from training.evaluate.loading import load_chat_tokenizer

    encoder = ChatEncoder(load_chat_tokenizer(parent.path), MAX_CHAT_TOKENS)
    with track("Encoding chats", show_progress) as progress:
        evaluation = encode_all(encoder, heldout, progress)
    windows = cut_windows(encode_all(encoder, train), request.samples)
    digests = [
        DataDigest(name=file.path.name, sha256=file.sha256, rows=len(train), role="calibration"),
        DataDigest(name=file.path.name, sha256=file.sha256, rows=len(heldout), role="heldout"),
    ]
    return _Data(windows, evaluation, digests)


def cut_windows(examples: Sequence[Example], most: int) -> list[list[int]]:
    """The chats one after another, in windows of equal length; a shorter one only where it is all there is."""
    ids = [token for example in examples for token in example.input_ids]
    windows = [ids[start : start + WINDOW_TOKENS] for start in range(0, len(ids), WINDOW_TOKENS)]
    whole = [window for window in windows if len(window) == WINDOW_TOKENS]
    return (whole or windows)[:most]


def copy_companions(source: Path, target: Path) -> None:
    """Take tokenizer, chat template and the like from the source, byte for byte, where the target lacks them."""
    for path in source.iterdir():
        copied = path.is_file() and not any(path.match(pattern) for pattern in _NOT_COPIED)
        if copied and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def _describe(parent: Checkpoint, request: Request, data: _Data, result: dict[str, Any]) -> ManifestDraft:
    manifest = parent.manifest
    settings = {
        "scheme": request.scheme,
        **result["settings"],
        "samples": len(data.windows),
        "window_tokens": WINDOW_TOKENS,
    }
    return ManifestDraft(
        kind="quantized",
        base=manifest.base or manifest.as_ref(),
        parents=[manifest.as_ref()],
        recipe=RecipeRecord(name="quantize", settings=settings),
        data=data.digests,
        code_version=code_version(),
        evaluation={
            "perplexity_before": result["perplexity_before"],
            "perplexity_after": result["perplexity_after"],
            "heldout_tokens": result["tokens"],
        },
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
