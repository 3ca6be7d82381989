"""Whether `signet tune` finds more than chance in as many trials: python -m loadtests.benchmarks.search

A recipe of five settings trains a small network to tell noisy classes apart, by the loop that every method shares.
Searches of equal length, once as `signet tune` draws and once at random, are repeated with other seeds; what counts is
the held-out loss of each search's best trial. Pruning is off: the trials are the budget.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch
from accelerate import Accelerator
from torch import nn

from training.errors import RecipeError
from training.methods.run_folder import RunFolder
from training.methods.trainer import Trainer
from training.recipes.loading import variant
from training.recipes.sections import GradientRecipe
from training.tune.space import draw
from training.tune.study import TrialSeededTpe

EXAMPLES, INPUTS, CLASSES = 256, 6, 4
RECIPE = GradientRecipe.model_validate(
    {
        "method": "classes",
        "name": "classes",
        "steps": 20,
        "search": {
            "optimizer.learning_rate": {"low": 1e-5, "high": 10.0, "log": True},
            "optimizer.weight_decay": {"low": 1e-4, "high": 10.0, "log": True},
            "optimizer.clip_norm": {"low": 1e-2, "high": 10.0, "log": True},
            "schedule.warmup_fraction": {"low": 0.0, "high": 0.9},
            "batch_size": {"low": 1, "high": 64, "log": True},
        },
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--trials", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    found = {
        name: [best_loss(make(seed), arguments.trials) for seed in range(arguments.runs)]
        for name, make in (("signet tune", TrialSeededTpe), ("random", optuna.samplers.RandomSampler))
    }
    for name, losses in found.items():
        low, median, high = statistics.quantiles(losses, n=4)
        print(f"{name}: held-out loss of the best of {arguments.trials} trials {median:.4f} ({low:.4f}–{high:.4f})")
    pairs = zip(found["signet tune"], found["random"], strict=True)
    better = sum(ours < theirs for ours, theirs in pairs)
    print(f"better in {better} of {arguments.runs} runs")


def best_loss(sampler: optuna.samplers.BaseSampler, trials: int) -> float:
    """Of one search."""
    study = optuna.create_study(sampler=sampler)
    study.optimize(_train, n_trials=trials)
    return study.best_value


class Noisy:
    """Cross-entropy of the class of a random linear function with noise."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(INPUTS, CLASSES, generator=torch.Generator().manual_seed(0))
        self.inputs = torch.randn(EXAMPLES, INPUTS, generator=generator)
        noise = torch.randn(EXAMPLES, CLASSES, generator=generator)
        self.classes = (torch.tanh(self.inputs) @ weights + 0.5 * noise).argmax(1)
        self.lengths = [1] * EXAMPLES

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(self.inputs[indices]), self.classes[indices], reduction="sum")


def _train(trial: optuna.Trial) -> float:
    assert RECIPE.search is not None
    recipe = variant(Path("classes.yaml"), RECIPE, draw(trial, RECIPE.search))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    heldout = Noisy(2)
    with tempfile.TemporaryDirectory() as home:
        run = RunFolder.of(Path(home), "classes", recipe.model_dump(mode="json"), [])
        with run.held():
            try:
                Trainer(recipe, Accelerator(cpu=True), run, model, Noisy(1)).train(show=False)
            except RecipeError:  # the loss is no longer a number
                raise optuna.TrialPruned from None
    with torch.inference_mode():
        return float(heldout.loss(model, range(EXAMPLES))) / EXAMPLES


if __name__ == "__main__":
    main()
