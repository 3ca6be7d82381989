"""The guard's recipes: one run makes a signed checkpoint of either model, and ships it when told to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from serving.guard.classifiers.attacks import WEIGHTS as attack_weights
from serving.guard.names.model import read
from training.errors import RecipeError
from training.names import train as names_training
from training.recipes import GuardRecipe, SftRecipe, load_recipe
from training.recipes.guard import CARD, GuardOutcome, run_guard
from training.registry import Registry

RECIPES = Path(__file__).parents[3] / "recipes"
RECIPE = "method: guard-names\nname: tiny\ntexts: 100\nepochs: 2\nlearning_rate: 0.05\ndraws: 10\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package would keep the weights."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(names_training, "WEIGHTS", folder / "names.bin")
    return folder


def run(path: Path, home: Path, ship: bool = False) -> GuardOutcome:
    recipe: GuardRecipe | SftRecipe = load_recipe(path)
    assert not isinstance(recipe, SftRecipe)
    return run_guard(recipe, path, home, Registry(home / "registry", home / "keys"), ship)


def test_the_result_is_a_signed_checkpoint_with_its_card(path: Path, home: Path, package: Path) -> None:
    outcome = run(path, home)

    checkpoint = outcome.checkpoint
    Registry(home / "registry", home / "keys").verify(checkpoint)
    manifest = checkpoint.manifest
    assert (checkpoint.ref, manifest.kind, manifest.license) == ("tiny@1", "classifier", "Apache-2.0")
    assert manifest.files.keys() == {"names.bin", CARD}
    assert manifest.recipe is not None
    assert (manifest.recipe.name, manifest.recipe.settings["texts"]) == ("recipe.yaml", 100)
    assert manifest.evaluation.keys() == {"name_f1", "address_f1"}
    assert json.loads((checkpoint.path / CARD).read_text())["recipe"]["texts"] == 100
    assert not outcome.as_shipped
    assert os.listdir(package) == []
    assert os.listdir(home / "cache") == []


def test_the_same_recipe_gives_the_same_weights_and_ships_them(path: Path, home: Path, package: Path) -> None:
    shipped = run(path, home, ship=True)
    again = run(path, home)
    path.write_text(RECIPE + "seed: 1\n")
    other = run(path, home)

    assert sorted(os.listdir(package)) == [CARD, "names.bin"]
    assert read(package / "names.bin").lean == (24, 48)
    assert (shipped.as_shipped, again.as_shipped, other.as_shipped) == (True, True, False)
    assert shipped.checkpoint.digest == again.checkpoint.digest != other.checkpoint.digest
    assert [made.checkpoint.ref for made in (shipped, again, other)] == ["tiny@1", "tiny@2", "tiny@3"]


def test_several_processes_are_refused(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(RecipeError, match=r"recipe.yaml: trains in one process"):
        run(path, home)


def test_what_is_shipped_was_made_by_the_shipped_recipes() -> None:
    names, attacks = (load_recipe(RECIPES / f"guard-{name}.yaml") for name in ("names", "attacks"))
    cards = [json.loads(weights.with_name(CARD).read_bytes()) for weights in (names_training.WEIGHTS, attack_weights)]

    assert cards[0]["recipe"] == names.model_dump(mode="json")
    assert (cards[1]["name"], cards[1]["false_flags"]) == (attacks.name, attacks.model_dump()["false_flags"])
    assert cards[1]["sources"]["own grammar"]["texts"] == attacks.model_dump()["size"]
    assert cards[1]["meanings"].keys() >= {"encoder", "licence", "words"}
