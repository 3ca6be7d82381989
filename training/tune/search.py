"""`signet tune` from the recipe to the result; reads top to bottom as what happens."""

from __future__ import annotations

from serving.file_lock import file_lock
from training.outcome import Context
from training.recipes.sections import Recipe
from training.tune.results import Result, conclude
from training.tune.space import require_space
from training.tune.study import Pruning, closing, open_store, open_study, study_name, work
from training.tune.trials import Trials, measure_of

FOLDER, STORE = "tune", "studies.db"


def search(recipe: Recipe, context: Context, num_trials: int, store: str | None, pruning: Pruning) -> Result:
    """Go on with the search of this recipe up to so many trials in all; raises TrainingError."""
    gradient, space = require_space(recipe, context.recipe_path)
    pinned = context.pinned(gradient)
    measure = measure_of(pinned, context)
    folder = context.home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = study_name(pinned, context)
    with file_lock(folder / "lock"):  # of workers that start together, one makes the tables
        storage = open_store(store or f"sqlite:///{folder / STORE}")
        with closing(storage):
            study = open_study(storage, name, measure.direction, recipe.seed, pruning)
    trials = Trials(pinned, space, measure, context, folder / name, num_trials)
    with closing(storage):
        work(study, trials, context.show)
        return conclude(study, trials)
