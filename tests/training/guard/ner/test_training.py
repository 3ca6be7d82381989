"""The tagger's training: labelled texts, weights that learnt them, one command that registers the result."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from serving.guard.ner.model import Model
from serving.guard.ner.tagged_text import NAME, TaggedText
from training.guard.ner.fit import corpus_of, fit
from training.guard.ner.gazetteer import Gazetteer
from training.guard.ner.texts import NONE, PROSE, SENTENCES, Piece, Texts, read_lines
from training.guard.ner.train import train
from training.recipes.guard import NamesRecipe

LOCALES = ("en_US", "ru_RU")


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    return Gazetteer(1, LOCALES, draws=20)


def test_the_same_seed_gives_the_same_texts(gazetteer: Gazetteer) -> None:
    one, two, other = (Texts(gazetteer, ["Nobody is named here."], seed) for seed in (1, 1, 2))

    drawn = [one.draw() for _ in range(40)]

    assert drawn == [two.draw() for _ in range(40)]
    assert drawn != [other.draw() for _ in range(40)]


def test_what_is_put_into_a_slot_is_labelled_and_the_sentence_is_not(gazetteer: Gazetteer) -> None:
    pieces = list(Texts(gazetteer, [], 1)._fill("Ship to {name}, {address} by {weekday} {if}."))

    assert [piece.tag for piece in pieces] == [NONE, 0, NONE, 1, NONE, NONE, NONE]
    assert pieces[0].text == "Ship to "
    assert pieces[-1].text == " {if}."


def test_names_other_slots_and_other_words_are_woven_into_prose(gazetteer: Gazetteer) -> None:
    texts = Texts(gazetteer, ["The engine stops, and they wait for a signal at `some.place`."], 1)

    woven = [text for _ in range(400) if "`some.place`" in (text := texts._template())]

    slots = {slot for text in woven for slot in re.findall(r"\{\w+\}", text)}
    assert {"{name}", "{first}", "{last}", "{city}", "{org}", "{Word}"} <= slots
    assert 60 < len(woven) < 180
    assert not any("engine" in text and "they" in text and "signal" in text for text in woven)
    assert sum("{word}" in text for text in woven) > 30
    assert len(set(woven)) > 40


def test_every_slot_of_the_sentences_is_filled(gazetteer: Gazetteer) -> None:
    texts = Texts(gazetteer, ["some words to draw from"], 1)
    slots = {"name", "first", "last", "address", "street", "street_no", "city", "org", "phone", "words", "Words"}

    for line in SENTENCES.read_text().splitlines():
        filled = "".join(piece.text for piece in texts._fill(line))
        assert not any(f"{{{slot}}}" in filled for slot in slots)


def test_names_of_other_alphabets_are_written_in_latin(gazetteer: Gazetteer) -> None:
    source = random.Random(1)

    assert all(ord(char) < 0x250 for _ in range(200) for name in gazetteer.person(source) for char in name)


def test_fitting_learns_names_by_what_stands_before_them() -> None:
    texts = [
        [Piece("dear ", NONE), Piece(name, NAME), Piece(" it is late", NONE)] for name in ("Ann", "Bob", "Eve")
    ] * 40

    fitted = fit(corpus_of(texts), 20, 0.05, 0)

    tagged = TaggedText(Model(fitted.table, fitted.joint, (0, 0)), "dear Zoe it is late", final=True)
    assert [tagged.tag(number) for number in range(5)] == [NONE, NAME, NONE, NONE, NONE]


def test_a_training_says_what_it_has_seen(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("The gateway holds back the last word of a stream until it is complete.\n\n" * 3)
    recipe = NamesRecipe(method="guard-names", name="tiny", texts=100, epochs=1, draws=10, prose=[Path()])

    trained = train(recipe, tmp_path, show=False)

    assert trained.card["texts"] == 100
    assert trained.card["sources"]["prose"].startswith(f"{len(read_lines(PROSE)) + 3} paragraphs")
