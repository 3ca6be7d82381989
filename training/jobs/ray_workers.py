"""The entry point of a RayJob: `python -m training.jobs.ray_workers RECIPE --workers N`, in an image with ray[train].

Ray Train starts a process for each worker and lets them find each other, as `torchrun` does: RANK, WORLD_SIZE and
MASTER_ADDR are set and the process group is there. Each then runs `signet train RECIPE`, like any other process.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

import click

from training.errors import TrainingError
from training.jobs.job import HOME


def train_worker(settings: dict[str, Any]) -> None:
    """In each worker: the command, as a user would type it in the volume's folder."""
    os.chdir(settings["folder"])
    sys.argv = ["signet", "train", settings["recipe"]]
    try:
        runpy.run_module("signet", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in (0, None):
            # Ray takes a worker for done unless it raises.
            raise TrainingError(f"signet train ended with {end.code}: its message is in the worker's log") from None


@click.command()
@click.argument("recipe")
@click.option("--workers", type=click.IntRange(1), required=True, help="Processes.")
@click.option("--gpu", is_flag=True, help="A GPU for each.")
def main(recipe: str, workers: int, gpu: bool) -> None:
    """Have Ray's workers run a recipe together."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    scaling = ScalingConfig(num_workers=workers, use_gpu=gpu, placement_strategy="SPREAD")
    settings = {"recipe": recipe, "folder": HOME}
    TorchTrainer(train_worker, train_loop_config=settings, scaling_config=scaling).fit()


if __name__ == "__main__":
    main()
