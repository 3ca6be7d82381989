"""Adapters: put on a model, folded into it, and written out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, get_peft_model
from transformers import GenerationConfig

from training.errors import RecipeError, SourceError
from training.evaluate.source import Source
from training.model.bottleneck import (
    ATTENTION_OUTPUTS,
    FEED_FORWARD_OUTPUTS,
    add_bottlenecks,
    has_bottlenecks,
    known_outputs,
    save_bottlenecks,
)
from training.recipes.sections import BottleneckSettings, Ia3Settings, LoraSettings, PrefixSettings
from training.registry import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AnyAdapter = LoraSettings | Ia3Settings | PrefixSettings | BottleneckSettings

# What a model's folder holds besides weights: tokenizer, chat template, generation settings, licence.
_COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "NOTICE*")
# About the base's own weights, or written anew.
_NOT_COPIED = ("config.json", "*.index.json", "manifest.json", "adapter_config.json")


def require_trainable(base: Source) -> Source:
    """Return the base, or raise SourceError naming what to train instead."""
    if base.kind in ("quantized", "adapter"):
        assert base.checkpoint is not None  # only registered models have a kind
        origin = base.checkpoint.manifest.base
        instead = f": train {origin.ref}, which it was made from" if origin else ""
        raise SourceError(f"{base.identity.ref} is {base.kind} and cannot be trained further{instead}")
    if base.is_tokenizer:
        raise SourceError(f"{base.identity.ref} is not a model but {base.kind or 'a tokenizer'}")
    return base


def attach(model: PreTrainedModel, settings: AnyAdapter, task: str = "CAUSAL_LM") -> PeftModel | PreTrainedModel:
    """Freeze the model and give it adapters. LoRA, DoRA, IA³ and bottlenecks start as no change.

    `task` is peft's: with `SEQ_CLS` the classification head is trained as well.
    """
    if isinstance(settings, BottleneckSettings):
        return _with_bottlenecks(model, settings)
    try:
        return get_peft_model(model, _config(settings, task))
    except ValueError as error:
        where = "adapter" if isinstance(settings, PrefixSettings) else "adapter.targets"
        raise RecipeError(f"{where}: {str(error).splitlines()[0]}") from None


def _with_bottlenecks(model: PreTrainedModel, settings: BottleneckSettings) -> PreTrainedModel:
    targets = settings.targets
    if targets is None:
        attention = known_outputs(model, ATTENTION_OUTPUTS)
        feed_forward = known_outputs(model, FEED_FORWARD_OUTPUTS)
        if not feed_forward or (settings.behind == "both" and not attention):
            raise RecipeError(
                f"adapter: the modules of {type(model).__name__} that bottlenecks follow are unknown: name them in "
                "adapter.targets"
            )
        targets = [*(attention if settings.behind == "both" else []), *feed_forward]
    try:
        add_bottlenecks(model, settings.width, targets)
    except ValueError as error:
        raise RecipeError(f"adapter.targets: {error}") from None
    return model


def _config(settings: LoraSettings | Ia3Settings | PrefixSettings, task: str) -> PeftConfig:
    if isinstance(settings, PrefixSettings):
        return PrefixTuningConfig(task_type=task, num_virtual_tokens=settings.tokens)
    if isinstance(settings, Ia3Settings):
        named = {"target_modules": settings.targets, "feedforward_modules": settings.feed_forward}
        return IA3Config(task_type=task, **(named if settings.targets else {}))
    return LoraConfig(
        task_type=task,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        use_dora=settings.kind == "dora",
    )


def untie_for(model: PreTrainedModel, settings: AnyAdapter, output: str) -> None:
    """Give input and output embeddings weights of their own where an adapter is to change one of them.

    Models share the two to be smaller. Merged into the shared weight, what was learned for one would also change the
    other. Raises RecipeError where only the adapter is to be kept: on its base the weight is shared again.
    """
    if isinstance(settings, BottleneckSettings):
        return  # they stand behind modules, whose weights stay as they are
    targets = getattr(settings, "targets", None)
    if not getattr(model.config, "tie_word_embeddings", False) or not isinstance(targets, list):
        return  # peft leaves the output layer out of all-linear, and of what it chooses itself
    shared = {
        name
        for name, module in model.named_modules()
        if module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    hit = [target for target in targets for name in shared if name == target or name.endswith(f".{target}")]
    if not hit:
        return
    if output == "adapter":
        raise RecipeError(
            f"adapter.targets: this model shares {hit[0]} between input and output: leave it out, "
            "or set output: merged, which separates them"
        )
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def fold(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """Fold adapters into the weights, where there are any, without rounding; RecipeError for what is not linear."""
    if has_bottlenecks(model):
        raise RecipeError("a bottleneck is not linear and cannot be folded into weights: it stays an adapter")
    if not isinstance(model, PeftModel):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise RecipeError("a prefix cannot be folded into weights: it stays an adapter")
    return model.merge_and_unload()


def round_to(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round the weights to the type that will be stored; the model goes on calculating in its own type.

    What is measured on it is then what will be served. Parameters alone: rounding the tables of the position encoding
    as well would spoil them, and they are not stored.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def save_merged(model: PreTrainedModel, base_folder: Path, folder: Path, dtype: torch.dtype) -> None:
    """Write the weights in `dtype`, and the base's tokenizer, chat template and generation settings unchanged.

    Copied and not written by `save_pretrained`, so that the tokenizer stays the base's byte for byte.
    """
    # transformers writes no generation settings that it finds odd, and raises. The base's own are copied instead.
    model.generation_config = GenerationConfig()
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    copy_companions(base_folder, folder)


def save_adapter(model: PeftModel | PreTrainedModel, base: Source, folder: Path) -> None:
    """Write the adapter alone, with the tokenizer beside it, as vLLM loads it where it is LoRA."""
    if has_bottlenecks(model):
        save_bottlenecks(model, base.identity.ref, folder)
        copy_companions(base.path, folder)
        return
    for config in model.peft_config.values():
        config.base_model_name_or_path = base.identity.ref  # not where it lies on this machine
    # Without the check of the embeddings, which no recipe trains and which may ask the network.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty form that peft leaves
    copy_companions(base.path, folder)


def engine_note(checkpoint: Checkpoint) -> list[str]:
    """A line for the user where an adapter is of a kind that engines do not serve beside its base."""
    adapter = (checkpoint.manifest.recipe.settings if checkpoint.manifest.recipe else {}).get("adapter")
    kind = adapter.get("kind") if isinstance(adapter, dict) else None
    if checkpoint.manifest.kind != "adapter" or kind in ("lora", None):
        return []
    fold = "set output: merged" if kind not in ("prefix", "bottleneck") else "no engine here takes it"
    return [f"Engines serve LoRA adapters alone, and this one is {kind}: {fold}."]


def copy_companions(base_folder: Path, folder: Path) -> None:
    """Copy what a base's folder holds besides weights and their configuration."""
    for path in base_folder.iterdir():
        wanted = any(path.match(pattern) for pattern in _COPIED)
        if path.is_file() and wanted and not any(path.match(pattern) for pattern in _NOT_COPIED):
            shutil.copyfile(path, folder / path.name)
