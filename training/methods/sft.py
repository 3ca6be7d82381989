"""Supervised fine-tuning: a model learns what the assistant says, or plain text, with an adapter or in all weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from training.command import measured_on
from training.data import Example
from training.evaluate.loading import (
    load_model,
    load_tokenizer,
    padding_token,
    require_language_model,
    stored_dtype,
)
from training.evaluate.perplexity import Perplexity, collate, count_targets, summed_loss
from training.methods import adapters, agreement
from training.methods.examples import Examples, holds_chats, measure_shared, read_examples
from training.methods.gradient_run import GradientRun, processes
from training.methods.run_folder import RunFolder
from training.methods.trainer import Training
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.recipes.sft import SftRecipe
from training.registry import Checkpoint


def run(recipe: SftRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        return _Run(recipe, context, accelerator).run()


class TokenObjective:
    """The negative log-likelihood of what the assistant says, or of all tokens of a text."""

    def __init__(self, examples: Sequence[Example], pad_token_id: int, device: torch.device) -> None:
        self._examples = examples
        self._pad_token_id = pad_token_id
        self._device = device
        self.lengths = [len(example.input_ids) for example in examples]

    def weight(self, indices: Sequence[int]) -> int:
        """Tokens that are predicted."""
        return count_targets([self._examples[index] for index in indices])

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        """In nats."""
        batch = collate([self._examples[index] for index in indices], self._pad_token_id, self._device)
        return summed_loss(model, batch)


class _Run(GradientRun[SftRecipe]):
    """`run()` reads top to bottom as what happens."""

    example = "chat or block of text"

    def __init__(self, recipe: SftRecipe, context: Context, accelerator: Accelerator) -> None:
        super().__init__(recipe, context, accelerator)
        self.base = adapters.require_trainable(context.find_model(recipe.base))
        require_language_model(self.base)
        self.pad_token_id = padding_token(load_tokenizer(self.base))

    def run(self) -> Outcome:
        watch = self.start()
        data = read_examples(self.recipe.data, self.context, self.base, self.show)
        with self.folder(data.digests, self.base) as folder:
            return self._run(data, folder, watch)

    def _run(self, data: Examples, folder: RunFolder, watch: Stopwatch) -> Outcome:
        # Always in fp32: a 16-bit weight rounds most steps of a small learning rate away.
        model: Any = load_model(self.base, torch.float32).to(self.accelerator.device)
        before = self._measure(model, data.heldout, "Held-out perplexity before")
        if self.recipe.adapter is not None:
            adapters.untie_for(model, self.recipe.adapter, self.recipe.output)
            model = adapters.attach(model, self.recipe.adapter)
        objective = TokenObjective(data.train, self.pad_token_id, self.accelerator.device)
        heldout = TokenObjective(data.heldout, self.pad_token_id, self.accelerator.device)
        trained = self.trainer(folder, model, objective, heldout).train(self.show)
        dtype = stored_dtype(self.base)
        outputs = agreement.chat_outputs(data.heldout, self.pad_token_id)
        after = self._measure(model, data.heldout, "Held-out perplexity after")
        if self.recipe.output == "merged":
            model = agreement.merge(model, dtype, outputs)
            # Again, since the manifest speaks of what is registered: the rounded weights.
            after = self._measure(model, data.heldout, "Held-out perplexity, merged")
        checkpoint = self._register(model, dtype, outputs, data, before, after, trained)
        return self._outcome(checkpoint, before, after, trained, watch)

    def _measure(self, model: Any, examples: Sequence[Example], label: str) -> Perplexity:
        return measure_shared(self.accelerator, model, examples, self.pad_token_id, label, self.show)

    def _register(
        self,
        model: Any,
        dtype: torch.dtype,
        outputs: agreement.Outputs,
        data: Examples,
        before: Perplexity,
        after: Perplexity,
        trained: Training,
    ) -> Checkpoint | None:
        def write(folder: Path) -> None:
            agreement.write(model, self.base, self.recipe.output, dtype, outputs, folder)

        evaluation = {
            "perplexity_before": before.value,
            "perplexity_after": after.value,
            "heldout_tokens": after.tokens,
            **trained.figures(),
        }
        return self.register(write, kind=self.recipe.output, base=self.base, data=data.digests, evaluation=evaluation)

    def _outcome(
        self, checkpoint: Checkpoint | None, before: Perplexity, after: Perplexity, trained: Training, watch: Stopwatch
    ) -> Outcome:
        steps = len(trained.losses)
        return Outcome(
            checkpoint=checkpoint,
            summary=f"held-out perplexity {before.value:.2f} before, {after.value:.2f} after, {steps} steps",
            cost=watch.cost(trained.weight),
            notes=[
                measured_on(checkpoint.manifest, holds_chats(self.context.path(self.recipe.data.train))),
                *trained.notes(),
                *adapters.engine_note(checkpoint),
                *next_steps(checkpoint),
            ]
            if checkpoint
            else [],
            report={
                "perplexity_before": before.value,
                "perplexity_after": after.value,
                "heldout_tokens": after.tokens,
                **trained.figures(),
                "losses": list(trained.losses),
            },
        )
