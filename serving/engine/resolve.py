"""From what the user wrote after `--model` to a folder that an engine may load.

Only a checkpoint whose signature and every byte verify is loaded, unless the user says otherwise in so many words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from serving import DEFAULT_MODEL
from serving.engine.default_model import OnProgress, ensure_default_model
from serving.engine.errors import ModelRefused, ModelUnavailable
from serving.engine.settings import EngineSettings
from training.registry import (
    Checkpoint,
    CheckpointChanged,
    Registry,
    RegistryError,
    UnknownCheckpoint,
    adapter_kind,
    require_base,
)

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

# What an engine reads of a repository on the hub; weights in other formats are left there.
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


class HomeAndEngine(Protocol):
    """The part of the settings tree that choosing a model needs."""

    @property
    def home(self) -> Path: ...
    @property
    def engine(self) -> EngineSettings: ...


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that an engine may load."""

    path: Path
    """Folder with configuration, weights and tokenizer; under an adapter, its base's."""
    served_name: str
    """What clients write as `model`."""
    checkpoint: Checkpoint | None = None
    """Set when a signed manifest vouches for it."""
    adapter: Path | None = None
    """Folder of a LoRA adapter to load on top of `path`."""
    warning: str | None = None
    """One line for the user, when the model is loaded although nothing vouches for it."""
    verify_again: Callable[[], None] | None = None
    """Checks signatures and every byte anew, before a restart: what was changed since must not be loaded under the
    verified manifest's name. Raises RegistryError. None when nothing vouches for the model."""

    @property
    def manifests(self) -> dict[str, str]:
        """Digest of the verified checkpoint behind each name that clients may write."""
        if self.checkpoint is None or self.warning is not None:
            return {}
        digests = {self.served_name: self.checkpoint.digest}
        base = self.checkpoint.manifest.base
        if self.adapter is not None and base is not None:
            digests[f"{self.served_name}-base"] = base.digest
        return digests

    @property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        return json_file(self.path / "config.json")

    @property
    def weight_bytes(self) -> int:
        """Size of the weights on the disk."""
        return sum(file.stat().st_size for file in self.path.glob("*.safetensors"))


def json_file(path: Path) -> dict[str, Any]:
    """What a file of the model says, nothing where there is none."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def resolve(ref: str | None, settings: HomeAndEngine, on_progress: OnProgress) -> ModelSource:
    """Find, prepare and verify the model that `ref` names; None means the default model.

    A name in the registry comes first, then a folder, then a Hugging Face id.
    Raises ModelUnavailable, ModelRefused or RegistryError, each with one line for the user.
    """
    registry = Registry(settings.home / "registry", settings.home / "keys")
    allow_unverified = settings.engine.allow_unverified
    if ref is None or ref in (DEFAULT_MODEL, f"{DEFAULT_MODEL}@1"):
        ensure_default_model(registry, settings.home / "cache", on_progress)
    ref = ref or DEFAULT_MODEL
    if not _is_path(ref):
        try:
            checkpoint = registry.resolve(ref)
        except UnknownCheckpoint as unknown:
            if not Path(ref).is_dir() and not HUB_ID.fullmatch(ref):
                raise ModelUnavailable(f"{unknown}; a folder is written ./{ref}") from None
        else:
            return _from_registry(registry, checkpoint, allow_unverified, on_progress)
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return _from_folder(folder.resolve(), settings, on_progress)
    if _is_path(ref):
        raise ModelUnavailable(f"there is no folder {ref}: give a checkpoint's folder or a name in the registry")
    return _from_hub(ref, settings.home / "cache" / "huggingface", allow_unverified, on_progress)


def _is_path(ref: str) -> bool:
    return ref.startswith(("/", "./", "../", "~")) or ref in (".", "..")


def _from_registry(
    registry: Registry, checkpoint: Checkpoint, allow_unverified: bool, on_progress: OnProgress
) -> ModelSource:
    if checkpoint.manifest.kind == "data":
        raise ModelUnavailable(f"{checkpoint.ref} is a data set: serve a model that was trained on it")
    warning = _verify(registry, checkpoint, allow_unverified, on_progress)
    name = checkpoint.path.parent.name
    trained_on = checkpoint.manifest.base
    if checkpoint.manifest.kind != "adapter" or trained_on is None:
        again = _verifier(registry, checkpoint) if warning is None else None
        return ModelSource(checkpoint.path, name, checkpoint, warning=warning, verify_again=again)
    _require_lora(checkpoint)
    base = registry.resolve(trained_on.digest)
    require_base(checkpoint, base)
    warning = _verify(registry, base, allow_unverified, on_progress) or warning
    again = _verifier(registry, checkpoint, base) if warning is None else None
    return ModelSource(base.path, name, checkpoint, adapter=checkpoint.path, warning=warning, verify_again=again)


def _require_lora(adapter: Checkpoint) -> None:
    """Refuse what vLLM cannot put on a base while it serves."""
    kind = adapter_kind(adapter)
    if kind != "lora":
        raise ModelRefused(
            f"{adapter.ref} is an adapter of kind {kind}, and the engine serves lora alone: "
            "fold it into its base, where its kind can be (method: merge, how: adapter)"
        )


def _verifier(registry: Registry, *checkpoints: Checkpoint) -> Callable[[], None]:
    def verify() -> None:
        for checkpoint in checkpoints:
            _verify(registry, checkpoint, False, lambda what, done, total: None)

    return verify


def _verify(registry: Registry, checkpoint: Checkpoint, allow_unverified: bool, on_progress: OnProgress) -> str | None:
    """Check signature and bytes; where the user allowed it, a failure becomes the warning that is returned."""
    try:
        registry.verify(
            checkpoint, lambda file, done, total: on_progress(f"verifying {checkpoint.ref}: {file}", done, total)
        )
    except RegistryError as error:
        if not allow_unverified:
            raise ModelRefused(
                f"{_without_full_stop(str(error))}: restore the file, or serve another version"
            ) from None
        return f"{error}: served all the same, as --allow-unverified says"
    return None


def _from_folder(folder: Path, settings: HomeAndEngine, on_progress: OnProgress) -> ModelSource:
    allow_unverified = settings.engine.allow_unverified
    if (folder / "manifest.json").exists():
        # A checkpoint lies in NAME/VERSION; its own registry's root is two folders up, the trusted keys are ours.
        registry = Registry(folder.parent.parent, settings.home / "keys")
        try:
            return _from_registry(
                registry, registry.resolve(f"{folder.parent.name}@{folder.name}"), allow_unverified, on_progress
            )
        except (UnknownCheckpoint, CheckpointChanged) as error:
            if not allow_unverified:
                raise ModelRefused(f"{folder} does not verify: {error}") from None
    elif not allow_unverified:
        raise ModelRefused(
            f"{folder} has no signed manifest: an engine loads only what it can verify. "
            "Add --allow-unverified to serve it all the same"
        )
    _check_config(folder)
    return ModelSource(folder, folder.name, warning=f"{folder} is served without a signed manifest")


def _check_config(folder: Path) -> None:
    """Raise ModelUnavailable unless the folder looks like a model: cheaper to learn now than from vLLM."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise ModelUnavailable(f"{folder} is no model: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{folder / 'config.json'} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ModelUnavailable(f"{folder / 'config.json'} holds no JSON object")


def _from_hub(ref: str, cache: Path, allow_unverified: bool, on_progress: OnProgress) -> ModelSource:
    if not allow_unverified:
        raise ModelRefused(
            f"{ref} is no checkpoint of this registry, and nothing signed vouches for what the Hugging Face hub "
            "sends: add --allow-unverified to serve it all the same"
        )
    on_progress(f"downloading {ref} from the Hugging Face hub", 0, 0)
    try:
        # Only in an engine's environment, and slow to import.
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise ModelUnavailable(
            f"{ref} cannot be fetched: huggingface_hub is not installed (`make serve` installs it)"
        ) from None
    try:
        path = snapshot_download(ref, cache_dir=cache, allow_patterns=HUB_FILES)
    except LocalEntryNotFoundError:
        raise ModelUnavailable(
            f"{ref} cannot be fetched: the Hugging Face hub was not reached and it is not cached. "
            "Check the network, or serve a checkpoint of the registry"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelUnavailable(f"{ref} cannot be fetched from the Hugging Face hub: {reason[:200]}") from None
    return ModelSource(Path(path), ref, warning=f"{ref} is served without a signed manifest")


def _without_full_stop(text: str) -> str:
    return text.rstrip(".")
