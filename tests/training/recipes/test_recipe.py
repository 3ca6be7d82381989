from pathlib import Path

from training.recipes import load_recipe
from training.recipes.sft import SftRecipe

REPOSITORY = Path(__file__).parents[3]


def test_shipped_recipe_and_its_data_are_sound() -> None:
    from training.data import check_disjoint, read_chats

    path = REPOSITORY / "recipes" / "lora-sft.yaml"

    recipe = load_recipe(path)

    assert isinstance(recipe, SftRecipe)
    assert recipe.data.heldout is not None
    train, heldout = read_chats(path.parent / recipe.data.train), read_chats(path.parent / recipe.data.heldout)
    check_disjoint(train.items, heldout.items)
    assert len(train.items) > 100
