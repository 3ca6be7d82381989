"""Pruning: parts of a model that say least are taken out, and what is left recovers by learning from its old self."""

from __future__ import annotations

import dataclasses

import torch
from accelerate import Accelerator

from training.evaluate.loading import load_model, load_tokenizer, padding_token, stored_dtype
from training.evaluate.source import Source
from training.methods import adapters
from training.methods.examples import read_examples
from training.methods.pruning import prune
from training.methods.student_run import StudentRun
from training.methods.work import work_folder
from training.outcome import Context, Outcome
from training.progress import track
from training.recipes.prune import PruneRecipe


def run(recipe: PruneRecipe, context: Context) -> Outcome:
    """Prune, recover and register; whatever interrupts it, nothing is registered half."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    try:
        base = adapters.require_trainable(context.find_model(recipe.base))
        with work_folder(context.home) as folder:
            pruned = Source(folder, base.identity, base.checkpoint)
            gone = _write_pruned(recipe, context, accelerator, base, pruned)
            outcome = StudentRun(recipe, context, accelerator, pruned, base, "pruned").run()
        went = [f"Layers removed: {', '.join(map(str, gone))}."] if gone else []
        return dataclasses.replace(
            outcome, notes=[*went, *outcome.notes], report={**outcome.report, "layers_left_out": list(gone)}
        )
    finally:
        accelerator.end_training()  # leaves the process group, where there is one


def _write_pruned(
    recipe: PruneRecipe, context: Context, accelerator: Accelerator, base: Source, pruned: Source
) -> list[int]:
    """Write what is left into the folder of `pruned`, and return which layers went."""
    show = context.show and accelerator.is_main_process
    examples = read_examples(recipe.data, context, base.path, show).train[: recipe.samples]
    model = load_model(base, torch.float32).to(accelerator.device)
    pad_token_id = padding_token(load_tokenizer(base.path))
    with track("Measuring importance", show) as progress:
        gone = prune(model, recipe.prune, examples, pad_token_id, progress)
    adapters.save_merged(model, base.path, pruned.path, stored_dtype(base))
    return gone
