"""The section `search`, and draws from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from training.errors import RecipeError
from training.recipes import load_recipe
from training.recipes.sections import RangeSettings
from training.tune.space import draw, require_space
from training.tune.study import TrialSeededTpe

PLAIN = "method: sft\nname: desk\nbase: tiny\ndata: {train: train.jsonl}\nsteps: 3\nadapter: lora\n"


def read(tmp_path: Path, search: str, plain: str = PLAIN) -> Any:
    path = tmp_path / "recipe.yaml"
    path.write_text(plain + search)
    return require_space(load_recipe(path), path)[1]


def test_names_may_be_dotted_or_nested(tmp_path: Path) -> None:
    rates = "{low: 1e-5, high: 1e-3, log: true}"
    dotted = read(tmp_path, f"search: {{optimizer.learning_rate: {rates}, batch_size: [2, 4]}}")
    nested = read(tmp_path, f"search: {{optimizer: {{learning_rate: {rates}}}, batch_size: [2, 4]}}")

    assert dotted == nested
    assert dotted["optimizer.learning_rate"] == RangeSettings(low=1e-5, high=1e-3, log=True)


def test_whole_ends_draw_whole_numbers_and_choices_may_be_sections(tmp_path: Path) -> None:
    search = read(
        tmp_path,
        "search: {adapter.rank: {low: 1, high: 8}, optimizer.weight_decay: {low: 0.0, high: 1.0}, "
        "schedule: [{shape: cosine}, {shape: wsd, decay_fraction: 0.5}]}",
    )
    study = optuna.create_study(sampler=TrialSeededTpe(0))

    drawn = [draw(study.ask(), search) for _ in range(30)]

    assert {settings["adapter.rank"] for settings in drawn} <= set(range(1, 9))
    assert len({settings["adapter.rank"] for settings in drawn}) > 3
    assert all(0 < settings["optimizer.weight_decay"] < 1 for settings in drawn)
    assert {settings["schedule"]["shape"] for settings in drawn} == {"cosine", "wsd"}


def test_first_draws_of_two_settings_do_not_move_together() -> None:
    search = {name: RangeSettings(low=0.0, high=1.0) for name in ("a", "b")}
    study = optuna.create_study(sampler=TrialSeededTpe(1))

    drawn = [draw(study.ask(), search) for _ in range(8)]

    assert all(settings["a"] != settings["b"] for settings in drawn)
    assert len({settings["a"] for settings in drawn}) == 8


REFUSED = [
    ("", "has no section search: say what to try"),
    ("search: {}", "search: Dictionary should have at least 1 item"),
    ("search: {name: [a, b]}", "search.name: must be the same in all trials"),
    ("search: {data.heldout: [a.jsonl, b.jsonl]}", "search.data.heldout: must be the same in all trials"),
    ("search: {optimiser.learning_rate: [1, 2]}", "unknown setting 'optimiser': did you mean 'optimizer'?"),
    ("search: {adapter.rank: {low: 0, high: 4}}", "adapter.rank: Input should be greater than or equal to 1"),
    ("search: {batch_size: [4, many]}", "batch_size: Input should be a valid integer"),
    ("search: {batch_size: {low: 4, high: 4}}", "low 4 is not below high 4"),
    ("search: {batch_size: {low: 0, high: 4, log: true}}", "log needs a low above 0"),
    ("search: {batch_size: {low: 1, high: 4, base: 2}}", "'search.batch_size.base': known are low, high, log"),
    ("search: {batch_size: {low: 1}}", "setting 'search.batch_size.high' is missing"),
    ("search: {batch_size: [4]}", "List should have at least 2 items"),
    ("search: {steps.more: [4, 5]}", "steps.more: steps is a value, not a section"),
]


@pytest.mark.parametrize(("search", "why"), REFUSED)
def test_what_cannot_be_searched_is_one_line(tmp_path: Path, search: str, why: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read(tmp_path, search)

    assert why in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path / 'recipe.yaml'}: ") or why in str(raised.value).splitlines()[0]
    assert "\n" not in str(raised.value)


def test_a_method_without_gradients_has_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="method: tokenizer does not train by gradient descent"):
        read(tmp_path, "", "method: tokenizer\nname: t\ndata: {train: a.txt}\n")
