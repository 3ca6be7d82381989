"""The end of every method: what was made goes into the registry, with a manifest that says how it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from training.code_version import code_version
from training.disk import work_folder
from training.evaluate.source import Source
from training.outcome import Context
from training.progress import track_bytes
from training.recipes.sections import Recipe
from training.registry import Checkpoint, DataDigest, Kind, ManifestDraft, RecipeRecord


def register(
    write: Callable[[Path], None],
    recipe: Recipe,
    context: Context,
    *,
    kind: Kind,
    base: Source | None = None,
    parents: Sequence[Source] = (),
    data: Sequence[DataDigest] = (),
    evaluation: Mapping[str, float],
    show: bool = True,
) -> Checkpoint:
    """Let `write` fill a folder, and register it; all or nothing. A trial ends here, with its figures.

    `parents` are all models that went into it, by default its base, to which the data sets that the recipe names are
    added; the licence is the first model's where the recipe names none.
    """
    if context.trial is not None:
        context.trial.finish(evaluation)
    origins = parents or ([base] if base is not None else [])
    licenses = [origin.checkpoint.manifest.license for origin in origins if origin.checkpoint is not None]
    draft = ManifestDraft(
        kind=kind,
        base=base.identity if base is not None else None,
        parents=[
            *(origin.identity for origin in origins),
            *(data_set.manifest.as_ref() for data_set in context.data_sets(recipe)),
        ],
        recipe=RecipeRecord(name=context.recipe_path.name, settings=recipe.model_dump(mode="json")),
        data=list(data),
        code_version=code_version(),
        evaluation=dict(evaluation),
        # Of several parents, the first is the one that the result is made from.
        license=recipe.license or next(iter(licenses), None),
    )
    with work_folder(context.home) as folder:
        write(folder)
        with track_bytes(f"Registering {recipe.name}", show) as on_progress:
            return context.registry.register(folder, recipe.name, draft, on_progress)
