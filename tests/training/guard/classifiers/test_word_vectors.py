"""Distilling meanings: which words are in the table, what eight bits keep, and the way from an encoder to weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.guard.classifiers.linear import load
from serving.guard.classifiers.word_vectors import NUM_DIMENSIONS, directions
from tests.support.tiny_bert import write_tiny_bert
from training.errors import SourceError
from training.guard.classifiers.examples import OpenData
from training.guard.classifiers.train import train
from training.guard.classifiers.word_vectors import compressed, distill, vocabulary
from training.recipes.guard import ClassifierRecipe


def test_words_come_from_the_encoder_the_grammar_and_the_data() -> None:
    data = OpenData(train={"plain": [("some", "a zyzzyva here")] * 5 + [("some", "one quokka")]})
    ranks = vocabulary(["[PAD]", "the", "##ing", "ship", "1984"], data)

    assert ranks["ship"] == 3
    assert {"the", "zyzzyva", "methamphetamine"} <= ranks.keys()
    assert not {"[PAD]", "##ing", "1984", "quokka"} & ranks.keys()


def test_what_was_alike_stays_alike_and_frequent_words_tell_little() -> None:
    chance = np.random.default_rng(0)
    kinds = chance.normal(0, 1, (5, 90))
    vectors = np.concatenate([kind + chance.normal(0, 0.2, (40, 90)) for kind in kinds]).astype(np.float32)
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(200)]
    table = compressed(words, vectors, np.arange(200) * 200, np.arange(200))
    read = table.sums(words)

    assert table.vectors.shape == (200, NUM_DIMENSIONS)
    assert np.linalg.norm(read[0]) < 0.2 * np.linalg.norm(read[199])
    close = directions(read) @ directions(read).T
    same = np.arange(200)[:, None] // 40 == np.arange(200) // 40
    assert close[same].mean() > 0.7 > close[~same].mean() + 0.4


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny-encoder"))


def test_a_recipe_that_names_an_encoder_distills_it(encoder: Path, tmp_path: Path) -> None:
    recipe = ClassifierRecipe(method="guard-classifiers", name="small", size=20, epochs=1, encoder=encoder)

    trained = train(recipe, tmp_path, show=False)

    trained.write(tmp_path / "weights.npz")
    word_vectors = load(tmp_path / "weights.npz").word_vectors
    own = word_vectors.sums(["ship", "harbour", "methamphetamine", "zyzzyva"])
    assert np.linalg.norm(own, axis=1)[:3].min() > 0
    assert not own[3].any()
    about = trained.card["meanings"]
    assert (about["encoder"], about["licence"], about["words"]) == ("Tiny encoder", "mit", len(word_vectors.words))
    assert about["digest"].startswith("sha256:")
    assert distill(encoder, OpenData(), show=False).vectors.tolist() == word_vectors.vectors.tolist()


def test_what_is_no_encoder_is_one_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no encoder that transformers loads") as raised:
        distill(tmp_path, OpenData(), show=False)
    assert "\n" not in str(raised.value)
    with pytest.raises(SourceError, match="no WordPiece vocabulary"):
        distill(tiny_model_folder, OpenData(), show=False)
