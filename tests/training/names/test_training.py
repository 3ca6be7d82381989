"""The tagger's training: labelled texts, weights that learnt them, one command that registers the result."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.guard.names.model import Model, read
from serving.guard.names.reading import NAME, Reading
from training.names import __main__ as command
from training.names.fit import corpus_of, fit
from training.names.places import Places
from training.names.recipe import NamesRecipe
from training.names.texts import NONE, SENTENCES, Piece, Texts
from training.recipes.flat import read_flat
from training.registry import Registry

RECIPES = Path(__file__).parents[3] / "recipes"
LOCALES = ("en_US", "ru_RU")


@pytest.fixture(scope="module")
def places() -> Places:
    return Places(1, LOCALES, draws=20)


def test_the_same_seed_gives_the_same_texts(places: Places) -> None:
    one, two, other = (Texts(places, ["Nobody is named here."], seed) for seed in (1, 1, 2))

    drawn = [one.draw() for _ in range(40)]

    assert drawn == [two.draw() for _ in range(40)]
    assert drawn != [other.draw() for _ in range(40)]


def test_what_is_put_into_a_slot_is_labelled_and_the_sentence_is_not(places: Places) -> None:
    pieces = list(Texts(places, [], 1)._fill("Ship to {name}, {address} by {weekday} {if}."))

    assert [piece.tag for piece in pieces] == [NONE, 0, NONE, 1, NONE, NONE, NONE]
    assert pieces[0].text == "Ship to "
    assert pieces[-1].text == " {if}."


def test_every_slot_of_the_sentences_is_filled(places: Places) -> None:
    texts = Texts(places, ["some words to draw from"], 1)
    slots = {"name", "first", "last", "address", "street", "street_no", "city", "org", "phone", "words", "Words"}

    for line in SENTENCES.read_text().splitlines():
        filled = "".join(piece.text for piece in texts._fill(line))
        assert not any(f"{{{slot}}}" in filled for slot in slots)


def test_names_of_other_alphabets_are_written_in_latin(places: Places) -> None:
    source = random.Random(1)

    assert all(ord(char) < 0x250 for _ in range(200) for name in places.person(source) for char in name)


def test_fitting_learns_names_by_what_stands_before_them() -> None:
    texts = [
        [Piece("dear ", NONE), Piece(name, NAME), Piece(" it is late", NONE)] for name in ("Ann", "Bob", "Eve")
    ] * 40

    fitted = fit(corpus_of(texts), 20, 0.05, 0)

    reading = Reading(Model(fitted.table, fitted.joint, (0, 0)), "dear Zoe it is late", final=True)
    assert [reading.tag(number) for number in range(5)] == [NONE, NAME, NONE, NONE, NONE]


def test_the_command_registers_weights_with_a_card(tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    (tmp_path / "page.md").write_text("The gateway holds back the last word of a stream until it is complete.\n\n" * 3)
    recipe.write_text("name: tiny\ntexts: 100\nepochs: 1\ndraws: 10\nprose: [.]\n")

    result = CliRunner().invoke(command.main, [str(recipe), "--home", str(tmp_path / "home"), "--json"])

    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    checkpoint = Registry(tmp_path / "home" / "registry", tmp_path / "home" / "keys").resolve("tiny")
    assert printed["ref"] == checkpoint.ref == "tiny@1"
    assert checkpoint.manifest.evaluation.keys() == {"name_f1", "address_f1"}
    card = json.loads((checkpoint.path / command.CARD).read_text())
    assert card["recipe"]["texts"] == 100
    assert read(checkpoint.path / "names.bin").lean == (16, 32)


def test_the_shipped_recipe_is_one_and_a_wrong_one_is_explained(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\ntext: 5\n")

    assert read_flat(RECIPES / "guard-names.yaml", NamesRecipe).lean == (0.5, 1.0)
    result = CliRunner().invoke(command.main, [str(wrong)])
    assert result.exit_code == 1
    assert "wrong.yaml: text" in result.stderr
