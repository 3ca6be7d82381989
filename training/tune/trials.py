"""One trial: a run of the recipe with other settings, which registers nothing; and by which figure it is compared."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import optuna
from optuna.trial import FrozenTrial, TrialState

from training.errors import DivergedError, RecipeError
from training.outcome import Context
from training.recipes import METHODS
from training.recipes.loading import variant
from training.recipes.sections import GradientRecipe, Search
from training.tune.space import draw

ERROR = "error"
"""Attribute of a trial whose settings led nowhere: they count as bad ones."""
# Attribute of a trial that was begun before: its number then.
_FIRST = "first"


class Measure(NamedTuple):
    """A figure of the manifest, and which way it is better."""

    name: str
    direction: Literal["minimize", "maximize"]


_PERPLEXITY = Measure("perplexity_after", "minimize")
_MACRO_F1 = Measure("macro_f1", "maximize")

_MEASURES = {
    "sft": _PERPLEXITY,
    "distill": _PERPLEXITY,
    "prune": _PERPLEXITY,
    "pretrain": Measure("validation_loss", "minimize"),
    "classify": _MACRO_F1,
    "embed": Measure("mrr", "maximize"),
    "dpo": Measure("reward_accuracy", "maximize"),
}


def measure_of(recipe: GradientRecipe, context: Context) -> Measure:
    """The method's own; a student of a classifier is one itself."""
    teacher = getattr(recipe, "teacher", None)
    if teacher is not None and context.find_model(teacher).kind == "classifier":
        return _MACRO_F1
    return _MEASURES[recipe.method]


class TrialLimitReached(Exception):
    """Other workers started the last trials at the same moment."""


class _Finished(Exception):
    def __init__(self, evaluation: Mapping[str, float]) -> None:
        self.evaluation = evaluation


def queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let a worker go on with a trial that was interrupted."""
    again = optuna.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={_FIRST: trial.number, **trial.user_attrs},
        intermediate_values=trial.intermediate_values,
    )
    study.add_trial(again)


class _Listener:
    """What a run tells its trial."""

    def __init__(self, trial: optuna.Trial, measure: Measure) -> None:
        self._trial = trial
        self._sign = 1 if measure.direction == "minimize" else -1

    def report(self, check: int, loss: float) -> None:
        self._trial.report(self._sign * loss, check)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def finish(self, evaluation: Mapping[str, float]) -> NoReturn:
        raise _Finished(evaluation)


@dataclasses.dataclass(frozen=True)
class Trials:
    """Runs trials of one recipe; optuna calls it."""

    recipe: GradientRecipe
    search: Search
    measure: Measure
    context: Context
    folder: Path
    most: int
    """How many trials there may be in all."""

    def __call__(self, trial: optuna.Trial) -> float:
        self._require_needed(trial)
        # A trial that a killed worker left goes on in its folder.
        begun = trial.user_attrs.get(_FIRST, trial.number)
        home = self.folder / f"trial-{begun}"
        context = dataclasses.replace(self.context, home=home, show=False, trial=_Listener(trial, self.measure))
        try:
            value = self._run(draw(trial, self.search), context)
        except optuna.TrialPruned:
            self._remove(home)
            raise
        except (RecipeError, DivergedError) as error:
            self._remove(home)
            trial.set_user_attr(ERROR, " ".join(str(error).split()))
            raise optuna.TrialPruned from None
        self._remove(home)
        return value

    def _run(self, values: Mapping[str, object], context: Context) -> float:
        recipe = variant(context.recipe_path, self.recipe, values)
        try:
            figures = METHODS[recipe.method].run(recipe, context).report
        except _Finished as finished:
            return float(finished.evaluation[self.measure.name])
        return float(str(figures[self.measure.name]))  # of a method that was not to register anything

    def _require_needed(self, trial: optuna.Trial) -> None:
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        before = [
            earlier
            for earlier in trial.study.get_trials(deepcopy=False, states=states)
            if earlier.number < trial.number
        ]
        if len(before) >= self.most:
            raise TrialLimitReached

    def _remove(self, home: Path) -> None:
        shutil.rmtree(home, ignore_errors=True)
