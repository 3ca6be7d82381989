"""What a search found: the best trial's recipe, how much each setting matters, and plots of both."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from training.data.plots import STYLE, bar_chart
from training.errors import TrainingError
from training.registry.signature import replace_file
from training.tune.space import best_settings, drawn
from training.tune.study import finished
from training.tune.trials import ERROR, Trials

# Fewer say nothing of what matters.
_LEAST_FOR_IMPORTANCE = 8
_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 40


def history_chart(title: str, points: Sequence[tuple[int, float | None]], direction: str) -> str:
    """`points` are trials' numbers and figures; a trial without one, which was pruned, is a tick at the bottom."""
    values = sorted(value for _, value in points if value is not None and math.isfinite(value))
    low, high = values[0], values[-1]
    # A few hopeless trials must not press all others onto a line.
    if direction == "minimize":
        high = min(high, values[math.ceil(0.9 * (len(values) - 1))])
    else:
        low = max(low, values[math.floor(0.1 * (len(values) - 1))])
    last = max(1, *(number for number, _ in points))
    spread = (high - low) or 1.0

    def x(number: int) -> float:
        return _LEFT + number / last * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = min(1.0, max(0.0, (value - low) / spread))
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="10" y="20">{escape(title)}</text>',
        *(f'<text x="{_LEFT - 8}" y="{y(end) + 4:.1f}" text-anchor="end">{end:.4g}</text>' for end in {low, high}),
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 12}" text-anchor="end">trial {last}</text>',
    ]
    steps: list[str] = []
    best: float | None = None
    for number, value in points:
        if value is None:
            parts.append(f'<path d="M{x(number):.1f} {_HEIGHT - _BOTTOM + 4}v6" stroke="#888"/>')
            continue
        better = best is None or (value < best if direction == "minimize" else value > best)
        if better:
            steps.append(f"{'H' if steps else 'M'}{x(number):.1f}{'V' if steps else ' '}{y(value):.1f}")
            best = value
        parts.append(f'<circle cx="{x(number):.1f}" cy="{y(value):.1f}" r="3" fill="#2f6f9f"/>')
    path = "".join(steps) + f"H{x(last):.1f}"
    parts.append(f'<path d="{path}" fill="none" stroke="#d08a2e" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>", ""])


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
