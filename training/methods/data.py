"""Builds a data set and registers it: what `signet data build` runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from training.data.build import OTHER_LABELS, Built, build, source_files
from training.data.card import make_card, write_card
from training.disk import work_folder
from training.errors import RecipeError
from training.methods.register import register
from training.outcome import Context, Outcome, Stopwatch
from training.progress import track
from training.recipes.data import DataRecipe, DataSource
from training.registry import DataDigest


def run(recipe: DataRecipe, context: Context) -> Outcome:
    """Build and register; a bad line, a leak or a full disk leaves nothing behind."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(f"{context.recipe_path}: builds in one process: start it without torchrun")
    watch = Stopwatch()
    cpu = time.process_time()
    files = source_files([(source, context.path(source.path)) for source in recipe.sources])
    against = recipe.decontaminate.against if recipe.decontaminate else []
    evaluations = source_files([(DataSource(path=path), context.path(path)) for path in against])
    with work_folder(context.home) as folder:
        with track("Reading (bytes)", context.show) as progress:
            built = build(recipe, files, evaluations, folder, folder.parent, progress)
        split = {"by": recipe.split.by, "leaks": built.leaks}
        card = make_card(recipe.name, built.sources, built.steps, built.train, built.heldout, built.statistics, split)
        write_card(card, folder)
        speed = built.size / 1e6 / max(time.process_time() - cpu, 1e-9)

        def fill(target: Path) -> None:
            for file in folder.iterdir():
                # Both folders are in one cache, so nothing is copied.
                file.rename(target / file.name)

        checkpoint = register(
            fill, recipe, context, kind="data", data=_digests(built), evaluation=_counts(built), show=context.show
        )
    kept = built.train.rows + built.heldout.rows
    return Outcome(
        checkpoint=checkpoint,
        summary=(
            f"{built.train.rows:,} records to train on, {built.heldout.rows:,} held out, of {built.num_read:,} read; "
            f"{speed:.1f} MB/s a core"
        ),
        cost=watch.cost(),
        notes=[
            *(_step_line(step.name, step.dropped) for step in built.steps if step.dropped),
            *_conflicts(built),
            f"See it:      signet data card {checkpoint.ref}",
            f"Train on it: signet train RECIPE --set data.train={checkpoint.ref}",
        ],
        report={"card": card, "records": kept, "megabytes_per_second": speed},
    )


def _digests(built: Built) -> list[DataDigest]:
    return [
        DataDigest(name=source["name"], sha256=source["sha256"], rows=source["rows"], role="train")
        for source in built.sources
    ]


def _counts(built: Built) -> dict[str, float]:
    dropped = {f"dropped_{step.name}": float(step.dropped.total()) for step in built.steps}
    return {
        "read": float(built.num_read),
        **dropped,
        "train": float(built.train.rows),
        "heldout": float(built.heldout.rows),
        "leaks": float(built.leaks),
    }


def _conflicts(built: Built) -> list[str]:
    count = sum(step.details[OTHER_LABELS] for step in built.steps)
    return [f"of these, {count:,} had {OTHER_LABELS}: look at how they were labelled"] if count else []


def _step_line(name: str, dropped: dict[str, int]) -> str:
    return f"{name} dropped " + ", ".join(f"{count:,} ({reason})" for reason, count in sorted(dropped.items()))
