from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipes import load_recipe
from training.recipes.pretrain import ModelSettings, PretrainRecipe

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("method: pretrain\nname: own\nsteps: 4\ndata:\n  train: play.txt\n")
    return path


def test_depth_alone_makes_a_model() -> None:
    small, large = (ModelSettings(depth=depth).config(vocab_size=100, block=64) for depth in (1, 12))

    assert (small.width, small.heads, small.hidden, small.context) == (64, 1, 168, 64)
    assert (large.width, large.heads, large.kv_heads, large.hidden) == (768, 12, 12, 2048)


def test_experts_have_as_many_active_weights_as_one_mlp() -> None:
    dense, sparse = (ModelSettings(depth=6, experts=count).config(vocab_size=100, block=64) for count in (0, 8))

    routers = sparse.layers * sparse.width * sparse.experts
    assert sparse.num_active_weights() - routers == pytest.approx(dense.num_active_weights(), rel=0.01)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["model.depht=3"], "unknown setting 'model.depht': did you mean 'depth'?"),
        (["model.heads=3"], "width 256 is not a multiple of heads 3"),
        (["model.context=128"], "model.context 128 is less than data.block 256"),
        (["model.context=1024"], "model.context 1024 is more than data.block 256: beyond it, the model would do badly"),
        (["model.context=1024", "model.window=512"], "model.context 1024 is more than data.block 256"),
        (["model.norm=batch"], "model.norm: Input should be 'rms' or 'layer'"),
        (["data.block=1"], "data.block: Input should be greater than or equal to 2"),
        (["data.heldout=play.txt"], "data.heldout is data.train"),
        (["model.experts=2", "model.experts_per_token=3"], "experts_per_token 3 is not between 1 and experts 2"),
    ],
)
def test_a_shape_that_does_not_fit_is_one_line(path: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(path, overrides)

    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_shakespeare_has_the_shape_of_nanogpts_cpu_configuration() -> None:
    recipe = load_recipe(RECIPES / "shakespeare.yaml")

    assert isinstance(recipe, PretrainRecipe)
    config = recipe.model.config(vocab_size=65, block=recipe.data.block)
    assert (config.layers, config.heads, config.width, recipe.data.block) == (4, 4, 128, 64)
    assert (recipe.batch_size, recipe.steps) == (12, 2000)
    assert config.num_active_weights() < 810_000  # its own has 0.80 million
