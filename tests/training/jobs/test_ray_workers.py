"""The entry point of a RayJob, with a stand-in for Ray, which is no dependency."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from training.errors import TrainingError
from training.jobs import ray_workers


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    class TorchTrainer:
        def __init__(self, loop: Callable[[Any], None], *, train_loop_config: Any, scaling_config: Any) -> None:
            asked.update(loop=loop, config=train_loop_config, scaling=scaling_config)

        def fit(self) -> None:
            asked["was_run"] = True

    train, torch = ModuleType("ray.train"), ModuleType("ray.train.torch")
    train.ScalingConfig = lambda **settings: settings  # type: ignore[attr-defined]
    torch.TorchTrainer = TorchTrainer  # type: ignore[attr-defined]
    for name, module in (("ray", ModuleType("ray")), ("ray.train", train), ("ray.train.torch", torch)):
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_ray_is_asked_for_as_many_workers(ray: dict[str, Any]) -> None:
    result = CliRunner().invoke(ray_workers.main, ["/recipe/recipe.yaml", "--workers", "4", "--gpu"])

    assert result.exit_code == 0, result.output
    assert ray["was_run"]
    assert ray["loop"] is ray_workers.train_worker
    assert ray["scaling"] == {"num_workers": 4, "use_gpu": True, "placement_strategy": "SPREAD"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # back again after the test
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return tmp_path


def test_a_worker_runs_the_command_in_the_volume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(ray_workers.runpy, "run_module", lambda name, **how: seen.append((name, sys.argv, os.getcwd())))

    ray_workers.train_worker({"recipe": "recipe.yaml", "folder": str(folder)})

    assert seen == [("signet", ["signet", "train", "recipe.yaml"], str(folder))]


def test_a_worker_that_fails_raises(folder: Path) -> None:
    with pytest.raises(TrainingError, match="signet train ended with 1"):
        ray_workers.train_worker({"recipe": "nowhere.yaml", "folder": str(folder)})
