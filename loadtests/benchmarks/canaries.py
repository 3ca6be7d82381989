"""Whether a model tells secrets of its examples, with and without privacy: python -m loadtests.benchmarks.canaries

Among ordinary rows stand canaries: a name that no other row has, and a secret of eight random symbols, each once.
After training, each true secret is ranked by its loss among random ones. Its exposure is log2(secrets ÷ rank) (Carlini
et al. 2019): 10 bits where the model knows it among 1,024, and 1.44 bits on average where it knows nothing.

A model may like the canaries' secrets all alike, having learned how often symbols occur in them: that tells of none of
them alone. So each is ranked a second time, among the secrets of the other canaries: whether the model knows whose it
is. The same is measured of names and secrets that were never trained on: that is what chance looks like here.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cross_entropy

from training.methods.run_folder import RunFolder
from training.methods.trainer import Trainer, Training
from training.model.config import ModelConfig
from training.model.decoder import Decoder
from training.recipes.sections import GradientRecipe

NAME, SECRET, SYMBOLS = 8, 8, 8
NAME_SYMBOLS = 16
VOCABULARY = SYMBOLS + NAME_SYMBOLS
# Of an ordinary row, each symbol follows from the one before, but for so many at random.
RANDOM_PART = 0.1

Bits = np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--canaries", type=int, default=64)
    parser.add_argument("--secrets", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for privacy in (None, {"epsilon": arguments.epsilon, "delta": 1e-5, "clip": 1.0}):
        made = study(arguments.rows, arguments.canaries, arguments.secrets, arguments.steps, privacy, arguments.seed)
        print(made)


@dataclass(frozen=True)
class Study:
    """One training, and what it tells."""

    trained: Training
    exposures: Bits
    """Bits, of each canary among random secrets."""
    linked: Bits
    """The same among the other canaries' secrets."""
    unseen: Bits
    """Among random secrets, of canaries that were not trained on."""
    before: float
    """Loss of held-out ordinary rows, nats a symbol."""
    after: float
    secrets: int
    """Among which the exposure is measured."""

    def __str__(self) -> str:
        how = str(self.trained.guarantee) if self.trained.guarantee else "Without privacy"
        return (
            f"{how}\n  exposure {_mean(self.exposures)} bits of canaries, {_mean(self.unseen)} of unseen ones, "
            f"{chance_bits(self.secrets):.2f} by chance; among each other's {_mean(self.linked)}, "
            f"{chance_bits(len(self.linked)):.2f} by chance; "
            f"loss of ordinary rows {self.before:.3f} before, {self.after:.3f} after"
        )


def study(rows: int, canaries: int, secrets: int, steps: int, privacy: dict[str, float] | None, seed: int = 0) -> Study:
    """Train on ordinary rows and canaries, and measure what the model knows of each."""
    random = np.random.default_rng(seed)
    ordinary, heldout = ordinary_rows(rows, random), ordinary_rows(200, random)
    planted, unseen = canary_rows(canaries, random), canary_rows(canaries, random)
    torch.manual_seed(seed)
    shape = ModelConfig(
        vocab_size=VOCABULARY, layers=2, width=64, heads=2, kv_heads=2, hidden=128, context=NAME + SECRET
    )
    model = Decoder(shape)
    recipe = GradientRecipe.model_validate(
        {
            "method": "canaries",
            "name": "canaries",
            "steps": steps,
            "batch_size": 32,
            "micro_batch_size": 32,
            "optimizer": {"learning_rate": 3e-3},
            "seed": seed,
            "privacy": privacy,
        }
    )
    before = _losses(model, heldout).mean()
    with tempfile.TemporaryDirectory() as home:
        run = RunFolder.of(Path(home), "canaries", recipe.model_dump(mode="json"), [])
        with run.held():
            objective = Rows(torch.cat([ordinary, planted]))
            trained = Trainer(recipe, Accelerator(cpu=True), run, model, objective).train(show=True)
    model.eval()
    others = torch.from_numpy(random.integers(0, SYMBOLS, (secrets - 1, SECRET)))
    return Study(
        trained,
        np.array([exposure(model, row, others) for row in planted]),
        linked_exposures(model, planted),
        np.array([exposure(model, row, others) for row in unseen]),
        float(before),
        float(_losses(model, heldout).mean()),
        secrets,
    )


class Rows:
    """Each symbol of a row, given those before it."""

    def __init__(self, rows_NL: torch.Tensor) -> None:
        self._rows_NL = rows_NL
        self.lengths = [rows_NL.shape[1]] * len(rows_NL)

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices) * int(self._rows_NL.shape[1] - 1)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        ids_BL = self._rows_NL[list(indices)]
        return cross_entropy(model(ids_BL[:, :-1]).flatten(0, 1), ids_BL[:, 1:].flatten(), reduction="sum")


def exposure(model: nn.Module, row: torch.Tensor, others: torch.Tensor) -> float:
    """In bits: how far up the true secret of a canary's row stands among the others."""
    name = row[:NAME].expand(len(others), NAME)
    losses = _losses(model, torch.cat([row[None], torch.cat([name, others], 1)]), first=NAME)
    rank = int((losses[1:] <= losses[0]).sum()) + 1
    return math.log2(len(losses) / rank)


def linked_exposures(model: nn.Module, rows: torch.Tensor) -> Bits:
    """Of each row's secret among those of all rows."""
    return np.array([exposure(model, row, rows[torch.arange(len(rows)) != at, NAME:]) for at, row in enumerate(rows)])


def chance_bits(count: int) -> float:
    """Mean exposure where each rank among so many is as likely."""
    return math.log2(count) - math.lgamma(count + 1) / math.log(2) / count


def ordinary_rows(count: int, random: np.random.Generator) -> torch.Tensor:
    """Rows of a grammar that a model learns without remembering any."""
    rows = random.integers(0, SYMBOLS, (count, NAME + SECRET))
    for column in range(1, NAME + SECRET):
        follows = random.random(count) >= RANDOM_PART
        rows[follows, column] = (rows[follows, column - 1] * 3 + column) % SYMBOLS
    return torch.from_numpy(rows)


def canary_rows(count: int, random: np.random.Generator) -> torch.Tensor:
    """Each a name of symbols that ordinary rows have not, and a secret."""
    names = random.integers(SYMBOLS, VOCABULARY, (count, NAME))
    return torch.from_numpy(np.concatenate([names, random.integers(0, SYMBOLS, (count, SECRET))], 1))


def _losses(model: nn.Module, rows_NL: torch.Tensor, first: int = 1) -> torch.Tensor:
    """Of each row, nats a symbol, over those from `first` on."""
    with torch.inference_mode():
        logits_NLV = model(rows_NL[:, :-1])[:, first - 1 :]
        targets_NL = rows_NL[:, first:]
        return cross_entropy(logits_NLV.transpose(1, 2), targets_NL, reduction="none").mean(1)


def _mean(values: Bits) -> str:
    error = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
