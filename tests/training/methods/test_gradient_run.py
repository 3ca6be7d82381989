"""What every run that follows a gradient begins and ends with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.errors import RecipeError
from training.methods.gradient_run import GradientRun
from training.outcome import Context
from training.recipes.sections import GradientRecipe
from training.registry import Registry

Make = Callable[..., GradientRun[GradientRecipe]]


@pytest.fixture
def make(tmp_path: Path, store: Registry) -> Make:
    """A run of a recipe, in one of so many processes."""

    def make(num_processes: int = 1, **settings: Any) -> GradientRun[GradientRecipe]:
        recipe = GradientRecipe.model_validate({"method": "any", "name": "any", "steps": 1, **settings})
        find_model: Any = None
        context = Context(
            recipe_path=tmp_path / "recipe.yaml", home=tmp_path, registry=store, find_model=find_model, show=False
        )
        accelerator: Any = SimpleNamespace(
            num_processes=num_processes, is_main_process=True, wait_for_everyone=lambda: None
        )
        return GradientRun(recipe, context, accelerator)

    return make


def test_a_step_has_an_example_for_each_process(make: Make) -> None:
    make(num_processes=2, batch_size=2)

    with pytest.raises(RecipeError, match="batch_size 2 is less than one example for each process"):
        make(num_processes=3, batch_size=2)


def test_the_state_of_a_run_outlives_its_failure_and_not_its_success(make: Make) -> None:
    run = make()
    with suppress(KeyboardInterrupt), run.folder([]) as folder:
        folder.save({"losses": [1.0]})
        raise KeyboardInterrupt
    assert (folder.path / "state.pt").exists()

    with run.folder([]) as again:
        assert again.path == folder.path

    assert not (folder.path / "state.pt").exists()


def test_two_do_not_work_on_one_run(make: Make) -> None:
    with make().folder([]), pytest.raises(RecipeError, match="already in progress"), make().folder([]):
        pass
