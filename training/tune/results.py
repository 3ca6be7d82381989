"""What a search found: the best trial's recipe, how much each setting matters, and plots of both."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from training.data.plots import bar_chart
from training.errors import TrainingError
from training.registry.signature import replace_file
from training.tune.plots import history_chart
from training.tune.space import best_settings, drawn
from training.tune.study import finished
from training.tune.trials import ERROR, Trials

# Fewer say nothing of what matters.
_LEAST_FOR_IMPORTANCE = 8


@dataclass(frozen=True)
class Result:
    """Of a whole search."""

    trials: Sequence[FrozenTrial]
    best: FrozenTrial
    values: dict[str, Any]
    """That the best trial drew."""
    importance: dict[str, float]
    """Of each setting; they sum to 1. Empty where there are too few trials."""
    folder: Path
    measure: str

    @property
    def pruned(self) -> int:
        return sum(trial.state == TrialState.PRUNED for trial in self.trials)

    def figures(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "measure": self.measure,
            "best": {"number": self.best.number, "value": self.best.value, "settings": self.values},
            "importance": self.importance,
            "trials": [
                {
                    "number": trial.number,
                    "state": trial.state.name.lower(),
                    "value": trial.value if trial.state == TrialState.COMPLETE else None,
                    "settings": trial.params,
                    **({"error": trial.user_attrs[ERROR]} if ERROR in trial.user_attrs else {}),
                }
                for trial in self.trials
            ],
            "recipe": str(self.folder / "best.yaml"),
            "plots": [str(path) for path in sorted(self.folder.glob("*.svg"))],
        }


def conclude(study: optuna.Study, trials: Trials) -> Result:
    """Write the best recipe and the plots; raises TrainingError where no trial came to its end."""
    done = finished(study)
    if not any(trial.state == TrialState.COMPLETE for trial in done):
        errors = [trial.user_attrs[ERROR] for trial in done if ERROR in trial.user_attrs]
        why = f", the last one with: {errors[-1]}" if errors else ""
        raise TrainingError(f"{trials.context.recipe_path}: none of {len(done)} trials finished{why}")
    best = study.best_trial
    values = drawn(best.params, trials.search)
    result = Result(done, best, values, _importance(study), trials.folder, trials.measure.name)
    trials.folder.mkdir(parents=True, exist_ok=True)
    settings = best_settings(trials.recipe, values, trials.context)
    head = f"# The best of {len(done)} trials: {trials.measure.name} {best.value:.6g}, trial {best.number}.\n"
    text = head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    replace_file(trials.folder / "best.yaml", text.encode())
    history = history_chart(f"{trials.recipe.name}: {trials.measure.name}", _points(done), trials.measure.direction)
    replace_file(trials.folder / "history.svg", history.encode())
    if result.importance:
        percent = [round(100 * share) for share in result.importance.values()]
        chart = bar_chart("How much each setting matters, %", list(result.importance), {"importance": percent})
        replace_file(trials.folder / "importance.svg", chart.encode())
    return result


def _points(done: Sequence[FrozenTrial]) -> list[tuple[int, float | None]]:
    return [(trial.number, trial.value if trial.state == TrialState.COMPLETE else None) for trial in done]


def _importance(study: optuna.Study) -> dict[str, float]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _LEAST_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # fANOVA needs scikit-learn; this needs none (Watanabe et al. 2023).
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
