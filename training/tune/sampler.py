"""What to try next: the tree-structured Parzen estimator (Bergstra et al. 2011), drawn anew for each trial."""

from __future__ import annotations

import hashlib
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial


class TrialSeededTpe(BaseSampler):
    """TPE whose draws follow from the seed and the trial's number.

    A search that is interrupted goes on to the same trials, and workers that start together do not draw the same ones.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # Of one seed for all settings, the first trials would lie on a diagonal.
        return self._of(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, trial: FrozenTrial, name: str) -> TPESampler:
        digest = hashlib.blake2b(repr((self._seed, trial.number, name)).encode(), digest_size=4).digest()
        return TPESampler(seed=int.from_bytes(digest, "big"))
