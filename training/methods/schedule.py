"""Which examples each step sees, and with what learning rate."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.recipes.sections import ScheduleSettings


@dataclass(frozen=True)
class BatchPlan:
    """A fixed order of examples, the same for every number of processes and every micro-batch size."""

    num_examples: int
    batch_size: int
    seed: int

    def steps(self, num_steps: int) -> Iterator[list[int]]:
        """The indices of each step's batch: shuffled passes over all examples, one after another."""
        order = self._endless()
        for _ in range(num_steps):
            yield [next(order) for _ in range(self.batch_size)]

    def _endless(self) -> Iterator[int]:
        shuffle = random.Random(self.seed)  # noqa: S311
        indices = list(range(self.num_examples))
        while True:
            shuffle.shuffle(indices)
            yield from indices


def learning_rate_factor(step: int, num_steps: int, schedule: ScheduleSettings) -> float:
    """Of step 0, 1, …: rises linearly over the warm-up, never from zero, then goes as the schedule's shape says."""
    num_warmup = math.ceil(num_steps * schedule.warmup_fraction)
    if step < num_warmup:
        return (step + 1) / num_warmup
    if schedule.shape == "cosine":
        progress = (step - num_warmup) / max(1, num_steps - num_warmup)
        return 0.5 * (1 + math.cos(math.pi * progress))
    num_decay = math.ceil(num_steps * schedule.decay_fraction) if schedule.shape == "wsd" else 0
    # Where nothing decays the quotient stays above 1, and the factor is 1 to the end.
    return min(1.0, (num_steps - step) / max(1, num_decay))
