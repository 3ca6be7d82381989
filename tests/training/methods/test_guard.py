"""The guard's recipes: one run makes a signed checkpoint of either model, and ships it when told to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.guard.classifiers.attacks import WEIGHTS as attack_weights
from serving.guard.ner.model import read
from training.errors import RecipeError
from training.guard.ner import train as ner_training
from training.methods.guard_weights import CARD
from training.outcome import Outcome
from training.recipes import load_recipe
from training.registry import Registry

Train = Callable[..., Outcome]

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
    monkeypatch.setattr(ner_training, "WEIGHTS", folder / "names.bin")
    return folder


def test_the_result_is_a_signed_checkpoint_with_its_card(path: Path, home: Path, package: Path, train: Train) -> None:
    outcome = train(path)

    checkpoint = outcome.checkpoint
    assert checkpoint is not None
    Registry(home / "registry", home / "keys").verify(checkpoint)
    manifest = checkpoint.manifest
    assert (checkpoint.ref, manifest.kind, manifest.license) == ("tiny@1", "classifier", "Apache-2.0")
    assert manifest.files.keys() == {"names.bin", CARD}
    assert manifest.recipe is not None
    assert (manifest.recipe.name, manifest.recipe.settings["texts"]) == ("recipe.yaml", 100)
    assert manifest.evaluation.keys() == {"name_f1", "address_f1"}
    assert json.loads((checkpoint.path / CARD).read_text())["recipe"]["texts"] == 100
    assert outcome.report["as_shipped"] is False
    assert os.listdir(package) == []
    assert os.listdir(home / "cache") == []


def test_the_same_recipe_gives_the_same_weights_and_ships_them(
    path: Path, home: Path, package: Path, train: Train
) -> None:
    shipped = train(path, ship=True)
    again = train(path)
    path.write_text(RECIPE + "seed: 1\n")
    other = train(path)

    assert sorted(os.listdir(package)) == [CARD, "names.bin"]
    assert read(package / "names.bin").lean == (24, 48)
    assert [made.report["as_shipped"] for made in (shipped, again, other)] == [True, True, False]
    made = [outcome.checkpoint for outcome in (shipped, again, other) if outcome.checkpoint]
    assert made[0].digest == made[1].digest != made[2].digest
    assert [checkpoint.ref for checkpoint in made] == ["tiny@1", "tiny@2", "tiny@3"]


def test_several_processes_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch, train: Train) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(RecipeError, match=r"recipe.yaml: trains in one process"):
        train(path)


def test_what_is_shipped_was_made_by_the_shipped_recipes() -> None:
    names, attacks = (load_recipe(RECIPES / f"guard-{name}.yaml") for name in ("names", "attacks"))
    cards = [json.loads(weights.with_name(CARD).read_bytes()) for weights in (ner_training.WEIGHTS, attack_weights)]

    assert cards[0]["recipe"] == names.model_dump(mode="json")
    assert (cards[1]["name"], cards[1]["false_flags"]) == (attacks.name, attacks.model_dump()["false_flags"])
    assert cards[1]["sources"]["own grammar"]["texts"] == attacks.model_dump()["size"]
    assert cards[1]["meanings"].keys() >= {"encoder", "licence", "words"}
