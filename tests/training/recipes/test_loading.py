from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipes import METHODS, load_recipe
from training.recipes.sections import LoraSettings
from training.recipes.sft import SftRecipe

RECIPES = Path(__file__).parents[3] / "recipes"
MINIMAL = "method: lora-sft\nname: desk\nbase: tiny\nsteps: 4\ndata:\n  train: chats.jsonl\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    return path


def test_overrides_change_nested_settings(path: Path) -> None:
    recipe = load_recipe(path, ["steps=9", "optimizer.learning_rate=1e-3", "lora.targets=[q_proj, v_proj]"])

    assert isinstance(recipe, SftRecipe)
    assert recipe.steps == 9
    assert recipe.optimizer.learning_rate == 1e-3
    assert recipe.adapter == LoraSettings(targets=["q_proj", "v_proj"])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("stepps=1", "unknown setting 'stepps': did you mean 'steps'?"),
        ("lora.rnak=1", "unknown setting 'adapter.rnak': did you mean 'rank'?"),
        ("zzz=1", "unknown setting 'zzz': known are method, name, seed"),
        ("steps=many", "steps: Input should be a valid integer"),
        ("steps=0", "steps: Input should be greater than or equal to 1"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate: Input should be"),
        ("method=poetry", "method: 'poetry' is not one of sft, "),
        ("method=guard-names", "unknown setting 'base': this method does not take it (sft, "),
        ("name=A B", "name: 'A B' is no name: write a-z"),
        ("data.train=null", "data.train: Input"),
        ("data.heldout=chats.jsonl", "data.heldout is data.train"),
        ("data=3", "data: Input should be a valid dictionary"),
    ],
)
def test_wrong_setting_is_one_line_with_the_files_name(path: Path, override: str, line: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(path, [override])

    assert str(raised.value).startswith(f"{path}: {line}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "why"),
    [("steps", "write KEY=VALUE"), ("=1", "write KEY"), ("a=[", "is not a YAML"), ("steps.x=1", "is a value")],
)
def test_wrong_override_is_quoted(path: Path, override: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        load_recipe(path, [override])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("method: [", "is not YAML"),
        ("", "holds no settings"),
        ("- a", "holds no settings"),
        ("name: desk\n", "setting 'method' is missing"),
        ("method: lora-sft\n", "setting 'name' is missing"),
    ],
)
def test_file_that_is_no_recipe_is_one_line(path: Path, content: str, why: str) -> None:
    path.write_text(content)

    with pytest.raises(RecipeError) as raised:
        load_recipe(path)

    assert str(raised.value).startswith(f"{path}: {why}")
    assert "\n" not in str(raised.value)


def test_absent_and_binary_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(RecipeError, match="is not YAML"):
        load_recipe(tmp_path / "binary.yaml")
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_can_be_run_by_name_of_its_method(path: Path) -> None:
    recipe = load_recipe(path)

    assert type(recipe) is METHODS[recipe.method].recipe
    command = "data build" if recipe.method == "data" else "train"
    assert f"signet {command} recipes/{path.name}" in path.read_text()
