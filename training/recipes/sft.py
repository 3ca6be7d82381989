"""Supervised fine-tuning with LoRA: from a recipe to a registered checkpoint.

Runs in one process, or in several under `torchrun` with the same result up to rounding: each step's chats are
fixed by the recipe, and the processes share them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from training.data import (
    ChatEncoder,
    Example,
    check_disjoint,
    encode_all,
    read_chats,
    split_heldout,
)
from training.errors import RecipeError, SourceError
from training.evaluate.loading import load_model, load_tokenizer, padding_token, stored_dtype
from training.evaluate.perplexity import Perplexity, collate, count_targets, summed_loss, total_loss
from training.evaluate.source import Source
from training.progress import track, track_bytes
from training.recipes import lora
from training.recipes.code_version import code_version
from training.recipes.recipe import SftRecipe
from training.recipes.schedule import BatchPlan, learning_rate_factor
from training.recipes.work import work_folder
from training.registry import Checkpoint, DataDigest, ManifestDraft, RecipeRecord, Registry

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


# Rounding to the stored type costs some thousandths; what costs more is a fault of the merge.
MOST_LOST_BY_MERGING = 1.05


@dataclass(frozen=True)
class Outcome:
    """What a run made and how it went."""

    checkpoint: Checkpoint | None
    """None in the processes of a distributed run that do not register."""
    before: Perplexity
    after: Perplexity
    losses: list[float]
    """Of each step: nats per assistant token."""
    seconds: float


@dataclass
class _Data:
    train: list[Example]
    heldout: list[Example]
    digests: list[DataDigest] = field(default_factory=list)


class SftRun:
    """One run of one recipe. `run()` reads top to bottom as what happens."""

    def __init__(self, recipe: SftRecipe, recipe_path: Path, base: Source, home: Path, registry: Registry) -> None:
        self.recipe = recipe
        self.recipe_path = recipe_path
        self.base = _require_trainable(base)
        self.home = home
        self.registry = registry
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.show = self.accelerator.is_main_process
        self.tokenizer = load_tokenizer(base.path)
        self.pad_token_id = padding_token(self.tokenizer)
        if recipe.batch_size < self.accelerator.num_processes:
            raise RecipeError(f"batch_size {recipe.batch_size} is less than one chat for each process")

    def run(self) -> Outcome:
        """Train and register; whatever interrupts it, nothing is registered half."""
        started = time.monotonic()
        set_seed(self.recipe.seed)
        data = self._read_data()
        base_model = load_model(self.base).to(self.accelerator.device)
        before = self._measure(base_model, data.heldout, "Held-out perplexity before")
        lora.untie_for(base_model, self.recipe.lora, self.recipe.output)
        model = lora.attach(base_model, self.recipe.lora)
        try:
            losses = self._train(model, data.train)
        except torch.OutOfMemoryError:
            raise RecipeError("out of memory: lower micro_batch_size or data.max_tokens") from None
        dtype = stored_dtype(self.base)
        after = self._measure(model, data.heldout, "Held-out perplexity after")
        result: PreTrainedModel | PeftModel = model
        if self.recipe.output == "merged":
            result = lora.merge(model, dtype)
            after = self._check_merged(after, self._measure(result, data.heldout, "Held-out perplexity, merged"))
        draft = self._describe(data, before, after, losses)
        checkpoint = self._register(result, dtype, draft) if self.accelerator.is_main_process else None
        self.accelerator.wait_for_everyone()
        return Outcome(checkpoint, before, after, losses, time.monotonic() - started)

    def close(self) -> None:
        """Leave the process group, where there is one."""
        self.accelerator.end_training()

    def _read_data(self) -> _Data:
        settings = self.recipe.data
        folder = self.recipe_path.parent
        train_file = read_chats(folder / settings.train)
        if settings.heldout is None:
            heldout_file, heldout_name = train_file, settings.train
            train, heldout = split_heldout(train_file.chats, settings.heldout_fraction)
        else:
            heldout_file, heldout_name = read_chats(folder / settings.heldout), settings.heldout
            train, heldout = list(train_file.chats), list(heldout_file.chats)
            check_disjoint(train, heldout)
        encoder = ChatEncoder(self.tokenizer, settings.max_tokens)
        with track("Encoding chats", self.show) as progress:
            return _Data(
                train=encode_all(encoder, train, progress),
                heldout=encode_all(encoder, heldout),
                digests=[
                    DataDigest(name=str(settings.train), sha256=train_file.sha256, rows=len(train), role="train"),
                    DataDigest(name=str(heldout_name), sha256=heldout_file.sha256, rows=len(heldout), role="heldout"),
                ],
            )

    def _measure(self, model: PreTrainedModel, examples: Sequence[Example], label: str) -> Perplexity:
        """Perplexity over all processes, each scoring its share."""
        share = examples[self.accelerator.process_index :: self.accelerator.num_processes]
        with track(label, self.show) as progress:
            loss = total_loss(model, share, self.pad_token_id, progress)
        tokens = count_targets(examples)
        return Perplexity(math.exp(self._sum(loss) / tokens), tokens, len(examples))

    def _check_merged(self, trained: Perplexity, merged: Perplexity) -> Perplexity:
        """What the merged weights are worth; refused where that is less than what was trained."""
        if merged.value <= trained.value * MOST_LOST_BY_MERGING:  # so is what is no number
            return merged
        raise RecipeError(
            f"merging spoils the model: held-out perplexity {trained.value:.4g} with the adapter, {merged.value:.4g} "
            "merged; nothing was registered. Set output: adapter, or other lora.targets"
        )

    def _train(self, model: PeftModel, examples: Sequence[Example]) -> list[float]:
        recipe = self.recipe
        settings = recipe.optimizer
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        parallel, optimizer = self.accelerator.prepare(model, optimizer)
        parallel.train()
        plan = BatchPlan(len(examples), recipe.batch_size, recipe.seed)
        losses: list[float] = []
        with track(f"Training {recipe.name}", self.show) as progress:
            for step, indices in enumerate(plan.steps(recipe.steps)):
                factor = learning_rate_factor(step, recipe.steps, settings.warmup_fraction)
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * factor
                losses.append(self._step(parallel, optimizer, [examples[index] for index in indices]))
                progress(step + 1, recipe.steps, f"loss {losses[-1]:.3f}")
        return losses

    def _step(self, model: Any, optimizer: Any, batch: Sequence[Example]) -> float:
        """One optimizer step on one batch; returns its mean loss per assistant token.

        Divided by the tokens of the whole batch, not of each part, so that neither the number of processes nor the
        micro-batch size weighs tokens differently.
        """
        processes = self.accelerator.num_processes
        share = batch[self.accelerator.process_index :: processes]
        num_targets = count_targets(batch)
        size = self.recipe.micro_batch_size
        parts = [share[start : start + size] for start in range(0, len(share), size)]
        loss_here = 0.0
        for part in parts:
            is_last = part is parts[-1]
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                loss = summed_loss(model, collate(part, self.pad_token_id, self.accelerator.device))
                # Gradients are averaged over the processes, and must be summed.
                self.accelerator.backward(loss * processes / num_targets)
            loss_here += loss.item()
        mean = self._sum(loss_here) / num_targets
        if not math.isfinite(mean):
            raise RecipeError("the loss is no longer a number: lower optimizer.learning_rate")
        self.accelerator.clip_grad_norm_(model.parameters(), self.recipe.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return mean

    def _sum(self, value: float) -> float:
        """Over all processes."""
        here = torch.tensor(value, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(here, reduction="sum").item())

    def _describe(self, data: _Data, before: Perplexity, after: Perplexity, losses: Sequence[float]) -> ManifestDraft:
        base = self.base.checkpoint
        return ManifestDraft(
            kind=self.recipe.output,
            base=self.base.identity,
            parents=[self.base.identity],
            recipe=RecipeRecord(name=self.recipe_path.name, settings=self.recipe.model_dump(mode="json")),
            data=data.digests,
            code_version=code_version(),
            evaluation={
                "perplexity_before": before.value,
                "perplexity_after": after.value,
                "heldout_tokens": after.tokens,
                "first_loss": losses[0],
                "last_loss": losses[-1],
            },
            license=self.recipe.license or (base.manifest.license if base else None),
        )

    def _register(self, model: Any, dtype: torch.dtype, draft: ManifestDraft) -> Checkpoint:
        with work_folder(self.home) as folder:
            if self.recipe.output == "merged":
                lora.save_merged(model, self.base.path, folder, dtype)
            else:
                lora.save_adapter(model, self.base, folder)
            with track_bytes(f"Registering {self.recipe.name}", self.show) as on_progress:
                return self.registry.register(folder, self.recipe.name, draft, on_progress)


def _require_trainable(base: Source) -> Source:
    if base.kind in ("quantized", "adapter"):
        assert base.checkpoint is not None  # only registered models have a kind
        origin = base.checkpoint.manifest.base
        instead = f": train {origin.ref}, which it was made from" if origin else ""
        raise SourceError(f"{base.identity.ref} is {base.kind} and cannot be trained further{instead}")
    return base
