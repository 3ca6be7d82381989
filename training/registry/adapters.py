"""Adapters that an engine can put on their base while it serves."""

from __future__ import annotations

import json

from training.registry.checkpoint import Checkpoint
from training.registry.errors import NotServable
from training.registry.files import OnProgress
from training.registry.manifest import CheckpointRef
from training.registry.store import Registry


def adapter_kind(adapter: Checkpoint) -> str:
    """`lora`, `dora`, `ia3` …, as its configuration says; an engine puts `lora` alone on a base."""
    try:
        config = json.loads((adapter.path / "adapter_config.json").read_bytes())
    except (OSError, ValueError):
        config = {}
    if not isinstance(config, dict):
        config = {}
    return "dora" if config.get("use_dora") else str(config.get("peft_type", "lora")).lower()


def find_adapter(
    registry: Registry, ref: str, on_progress: OnProgress | None = None
) -> tuple[Checkpoint, CheckpointRef]:
    """A LoRA adapter whose signature and every byte verify, and the base that it was trained on.

    Raises RegistryError: NotServable for what is no such adapter, or why it does not verify.
    """
    checkpoint = registry.resolve(ref)
    registry.verify(checkpoint, on_progress)
    base = checkpoint.manifest.base
    if checkpoint.manifest.kind != "adapter" or base is None:
        raise NotServable(f"{checkpoint.ref} is not an adapter but {checkpoint.manifest.kind}: serve it by itself")
    kind = adapter_kind(checkpoint)
    if kind != "lora":
        raise NotServable(
            f"{checkpoint.ref} is an adapter of kind {kind}, and the engine serves lora alone: "
            "fold it into its base, where its kind can be (method: merge, how: adapter)"
        )
    return checkpoint, base
