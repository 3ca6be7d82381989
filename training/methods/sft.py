"""Supervised fine-tuning: a chat model learns what the assistant says, with an adapter or in all of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from training.command import measured_on
from training.data import Example
from training.errors import RecipeError
from training.evaluate.loading import load_chat_tokenizer, load_model, padding_token, stored_dtype
from training.evaluate.perplexity import Perplexity, collate, count_targets, summed_loss
from training.methods import adapters, agreement
from training.methods.examples import Examples, measure_shared, read_chat_examples
from training.methods.register import register
from training.methods.run_folder import RunFolder
from training.methods.trainer import Trainer, Training
from training.methods.trial_validation import TrialValidation
from training.outcome import Context, Outcome, Stopwatch, next_steps
from training.recipes.sft import SftRecipe
from training.registry import Checkpoint


def run(recipe: SftRecipe, context: Context) -> Outcome:
    """Train and register; whatever interrupts it, nothing is registered half."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    try:
        return _Run(recipe, context, accelerator).run()
    finally:
        accelerator.end_training()  # leaves the process group, where there is one


class ChatObjective:
    """The negative log-likelihood of what the assistant says."""

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


class _Run:
    """One run of one recipe. `run()` reads top to bottom as what happens."""

    def __init__(self, recipe: SftRecipe, context: Context, accelerator: Accelerator) -> None:
        self.recipe = recipe
        self.context = context
        self.accelerator = accelerator
        self.show = context.show and accelerator.is_main_process
        self.base = adapters.require_trainable(context.find_model(recipe.base))
        self.tokenizer = load_chat_tokenizer(self.base)
        self.pad_token_id = padding_token(self.tokenizer)
        if recipe.batch_size < accelerator.num_processes:
            raise RecipeError(f"batch_size {recipe.batch_size} is less than one chat for each process")

    def run(self) -> Outcome:
        watch = Stopwatch()
        set_seed(self.recipe.seed)
        data = read_chat_examples(self.recipe.data, self.context, self.tokenizer, self.show)
        settings = self.recipe.model_dump(mode="json")
        folder = RunFolder.of(self.context.home, self.recipe.name, settings, data.digests, self.base.identity.digest)
        with folder.held(self.accelerator.is_main_process):
            return self._run(data, folder, watch)

    def _run(self, data: Examples, folder: RunFolder, watch: Stopwatch) -> Outcome:
        # Always in fp32: a 16-bit weight rounds most steps of a small learning rate away.
        model: Any = load_model(self.base, torch.float32).to(self.accelerator.device)
        before = self._measure(model, data.heldout, "Held-out perplexity before")
        if self.recipe.adapter is not None:
            adapters.untie_for(model, self.recipe.adapter, self.recipe.output)
            model = adapters.attach(model, self.recipe.adapter)
        objective = ChatObjective(data.train, self.pad_token_id, self.accelerator.device)
        heldout = ChatObjective(data.heldout, self.pad_token_id, self.accelerator.device)
        trial_validation = TrialValidation.of(self.context.trial, heldout, self.recipe.micro_batch_size)
        trainer = Trainer(self.recipe, self.accelerator, folder, model, objective, trial_validation)
        trained = trainer.train(self.show)
        dtype = stored_dtype(self.base)
        outputs = agreement.chat_outputs(data.heldout, self.pad_token_id)
        after = self._measure(model, data.heldout, "Held-out perplexity after")
        if self.recipe.output == "merged":
            model = agreement.merge(model, dtype, outputs)
            # Again, since the manifest speaks of what is registered: the rounded weights.
            after = self._measure(model, data.heldout, "Held-out perplexity, merged")
        checkpoint = None
        if self.accelerator.is_main_process:
            checkpoint = self._register(model, dtype, outputs, data, before, after, trained)
            folder.finish()
        self.accelerator.wait_for_everyone()
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
    ) -> Checkpoint:
        def write(folder: Path) -> None:
            agreement.write(model, self.base, self.recipe.output, dtype, outputs, folder)

        evaluation = {
            "perplexity_before": before.value,
            "perplexity_after": after.value,
            "heldout_tokens": after.tokens,
            **trained.figures(),
        }
        return register(
            write,
            self.recipe,
            self.context,
            kind=self.recipe.output,
            base=self.base,
            data=data.digests,
            evaluation=evaluation,
            show=self.show,
        )

    def _outcome(
        self, checkpoint: Checkpoint | None, before: Perplexity, after: Perplexity, trained: Training, watch: Stopwatch
    ) -> Outcome:
        steps = len(trained.losses)
        return Outcome(
            checkpoint=checkpoint,
            summary=f"held-out perplexity {before.value:.2f} before, {after.value:.2f} after, {steps} steps",
            cost=watch.cost(trained.weight),
            notes=[
                measured_on(checkpoint.manifest),
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
