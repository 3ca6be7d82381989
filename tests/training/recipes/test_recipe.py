from pathlib import Path

from training.classifiers.recipe import ClassifierRecipe
from training.names.recipe import NamesRecipe
from training.recipes import load_recipe
from training.recipes.recipe import DataSettings, LoraSettings, OptimizerSettings, SftRecipe

REPOSITORY = Path(__file__).parents[3]


def test_every_setting_is_in_the_guide() -> None:
    guide = (REPOSITORY / "docs" / "train.md").read_text()
    tuning, guard = guide.split("## The guard's models")
    sections = {"data.": DataSettings, "lora.": LoraSettings, "optimizer.": OptimizerSettings, "": SftRecipe}

    names = [prefix + name for prefix, section in sections.items() for name in section.model_fields]
    of_guard = [name for section in (ClassifierRecipe, NamesRecipe) for name in section.model_fields]

    assert [name for name in names if f"`{name}`" not in tuning] == []
    assert [name for name in of_guard if f"`{name}`" not in guard] == []


def test_shipped_recipe_and_its_data_are_sound() -> None:
    from training.data import check_disjoint, read_chats

    path = REPOSITORY / "recipes" / "lora-sft.yaml"

    recipe = load_recipe(path)

    assert isinstance(recipe, SftRecipe)
    assert recipe.data.heldout is not None
    train, heldout = read_chats(path.parent / recipe.data.train), read_chats(path.parent / recipe.data.heldout)
    check_disjoint(train.chats, heldout.chats)
    assert len(train.chats) > 100
