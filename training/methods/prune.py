"""Pruning: parts of a model that say least are taken out, and what is left recovers by learning from its old self."""

from __future__ import annotations

import dataclasses

import torch
from accelerate import Accelerator

from training.data.texts import read_texts
from training.disk import work_folder
from training.evaluate.loading import load_model, load_tokenizer, padding_token, stored_dtype
from training.evaluate.source import Source
from training.methods import adapters
from training.methods.examples import measure_shared, read_examples
from training.methods.gradient_run import processes
from training.methods.pruning import prune
from training.methods.student_run import OriginalTeacher, StudentRun, parameters_of
from training.methods.vocabulary import scored_bytes, write_trimmed
from training.outcome import Context, Outcome
from training.progress import track
from training.recipes.prune import PruneRecipe


def run(recipe: PruneRecipe, context: Context) -> Outcome:
    """Prune, recover and register; whatever interrupts it, nothing is registered half."""
    with processes() as accelerator:
        base = adapters.require_trainable(context.find_model(recipe.base))
        with work_folder(context.home) as whole_folder, work_folder(context.home) as folder:
            whole, original = base, None
            if recipe.prune.vocabulary is not None:
                whole = dataclasses.replace(base, path=whole_folder)
                original = _write_trimmed(recipe, context, accelerator, base, whole)
            pruned, gone = whole, list[int]()
            if recipe.prune.is_of_parts:
                pruned = dataclasses.replace(base, path=folder)
                gone = _write_pruned(recipe, context, accelerator, whole, pruned)
            outcome = StudentRun(recipe, context, accelerator, pruned, whole, "pruned", original).run()
        went = [f"Layers removed: {', '.join(map(str, gone))}."] if gone else []
        return dataclasses.replace(
            outcome, notes=[*went, *outcome.notes], report={**outcome.report, "layers_left_out": list(gone)}
        )


def _write_trimmed(
    recipe: PruneRecipe, context: Context, accelerator: Accelerator, base: Source, trimmed: Source
) -> OriginalTeacher:
    """Write the model with fewer tokens into the folder of `trimmed`, and measure it as it was."""
    assert recipe.prune.vocabulary is not None  # else there is nothing to trim
    show = context.show and accelerator.is_main_process
    data = read_examples(recipe.data, context, base, show)
    digests, texts = list(data.digests), list[str]()
    if recipe.prune.vocabulary_text is not None:
        file = read_texts(context.path(recipe.prune.vocabulary_text))
        texts = file.items
        digests += file.digests(recipe.prune.vocabulary_text, "calibration", range(len(texts)))
    write_trimmed(base, recipe.prune.vocabulary, data.train, texts, trimmed.path)
    model = load_model(base, torch.float32).to(accelerator.device)
    pad_token_id = padding_token(load_tokenizer(base))
    label = "Held-out perplexity of the whole model"
    perplexity = measure_shared(accelerator, model, data.heldout, pad_token_id, label, show)
    return OriginalTeacher(perplexity, scored_bytes(base.path, data.heldout), parameters_of(model), digests)


def _write_pruned(
    recipe: PruneRecipe, context: Context, accelerator: Accelerator, whole: Source, pruned: Source
) -> list[int]:
    """Write what is left into the folder of `pruned`, and return which layers went."""
    show = context.show and accelerator.is_main_process
    examples = read_examples(recipe.data, context, whole, show).train[: recipe.samples]
    model = load_model(whole, torch.float32).to(accelerator.device)
    pad_token_id = padding_token(load_tokenizer(whole))
    with track("Measuring importance", show) as progress:
        gone = prune(model, recipe.prune, examples, pad_token_id, progress)
    adapters.save_merged(model, whole.path, pruned.path, stored_dtype(whole))
    return gone
