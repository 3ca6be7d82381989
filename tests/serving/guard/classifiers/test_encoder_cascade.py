"""The second look: what is looked at, what it adds, and that only the encoder of the training is taken."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from serving.guard.classifiers import ClassifiersSettings, make_pool
from serving.guard.classifiers.attacks import AttackClassifier, illicit_margin, shipped
from serving.guard.classifiers.encoder import Encoder, EncoderError, digest_of
from serving.guard.classifiers.encoder_cascade import HIGH, LOW, VIEWED_CHARS, EncoderCascade, views
from serving.guard.classifiers.head import Head
from serving.guard.classifiers.linear import load, save
from serving.guard.classifiers.windows import chunks
from tests.support.tiny_bert import write_tiny_bert

STORY = "The keeper went to the harbour. A ship lay there. Nobody had seen it come."
NO_ENCODER = cast(Any, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("encoder"))


def head(folder: Path, bias: float = 0.0) -> Head:
    chance = np.random.default_rng(0)
    kernel = chance.normal(0, 1, (32, 8)).astype(np.float16)
    out = chance.normal(0, 1, 8).astype(np.float32)
    return Head(kernel, np.zeros(8, dtype=np.float32), out, bias, 0.5, -1.0, 0.7, digest_of(folder))


def test_views_are_the_whole_its_sentences_and_pairs(folder: Path) -> None:
    encoder = Encoder(folder)

    seen = views(encoder, [STORY, "A ship lay there."])

    states, places = encoder.read(STORY.lower())
    of_first = [token for token, (begin, end) in enumerate(places) if begin < end <= STORY.index(".") + 1]
    of_last = [token for token, (begin, end) in enumerate(places) if end > begin >= STORY.index("Nobody")]
    assert len(seen[1]) == 1
    # "A ship lay there." is too short to stand alone: it goes with what follows.
    assert len(seen[0]) == 4
    assert np.allclose(seen[0][0], states.mean(axis=0), atol=1e-6)
    assert np.allclose(seen[0][1], states[of_first].mean(axis=0), atol=1e-6)
    assert len(of_last) > 3


@pytest.mark.parametrize("first", [LOW - 0.1, HIGH + 0.1])
def test_outside_of_the_band_the_encoder_is_not_asked(folder: Path, first: float) -> None:
    cascade = EncoderCascade(NO_ENCODER, head(folder))

    assert cascade.margin(STORY, lambda _: first) == first


@pytest.mark.parametrize("first", [LOW, 0.0, HIGH])
def test_within_the_band_the_largest_view_is_added(folder: Path, first: float) -> None:
    encoder, own = Encoder(folder), head(folder)
    rows = own.margins(views(encoder, [STORY])[0])

    assert len(set(rows.tolist())) == 4
    assert EncoderCascade(encoder, own).margin(STORY, lambda _: first) == pytest.approx(first + rows.max(), abs=1e-5)


def test_of_a_long_text_the_worst_piece_is_looked_at(folder: Path) -> None:
    encoder, own = Encoder(folder), head(folder)
    chance = random.Random(2)
    words = ["ship", "harbour", "the", "keeper", "weather", "book", "sea", "light", "day", "storm"]
    text = " ".join(f"{' '.join(chance.choices(words, k=9))}." for _ in range(60)) + STORY
    largest = [float(own.margins(rows).max()) for rows in views(encoder, chunks(text, VIEWED_CHARS))]

    found = EncoderCascade(encoder, own).margin(text, lambda piece: 1.0 if "Nobody" in piece else 0.0)

    assert found == pytest.approx(1.0 + largest[-1], abs=1e-4)
    assert len(largest) > 3
    assert largest[-1] not in [pytest.approx(other, abs=1e-4) for other in largest[:-1]]


def test_hidden_letters_do_not_change_what_the_encoder_reads(folder: Path) -> None:
    encoder = Encoder(folder)

    plain, hidden = views(encoder, ["the ship in the harbour", "the sh\u200bip in the \uff48arbour"])

    assert np.allclose(plain, hidden, atol=1e-5)


def test_another_encoder_than_the_one_of_the_training_is_refused(folder: Path) -> None:
    other = replace(head(folder), digest="0" * 64)

    with pytest.raises(EncoderError, match="not the encoder that the weights were trained with") as raised:
        EncoderCascade.open(folder, other)
    assert "\n" not in str(raised.value)
    with pytest.raises(EncoderError, match="no second look"):
        EncoderCascade.open(folder, None)
    assert EncoderCascade.open(folder, head(folder)).head.digest == digest_of(folder)


def test_a_gateway_with_a_wrong_folder_says_so_when_it_starts(folder: Path, tmp_path: Path) -> None:
    # Only a ValueError is one line at start, and leaves things as they were when settings are read again.
    assert issubclass(EncoderError, ValueError)
    with pytest.raises(EncoderError, match="not the encoder"):
        make_pool(ClassifiersSettings(encoder=folder))
    with pytest.raises(EncoderError, match="holds no encoder"):
        make_pool(ClassifiersSettings(encoder=tmp_path / "nowhere"))
    make_pool(ClassifiersSettings()).close()


def test_the_head_lies_in_the_file_of_weights(folder: Path, tmp_path: Path) -> None:
    own = head(folder)
    save(tmp_path / "weights.npz", replace(shipped(), encoder_head=own))

    read = load(tmp_path / "weights.npz")

    assert read.encoder_head is not None
    assert read.models.keys() == shipped().models.keys()
    for name, array in own.arrays().items():
        assert np.array_equal(read.encoder_head.arrays()[name], array)


def test_a_classifier_with_a_second_look_scores_both_margins_together(folder: Path) -> None:
    encoder, own = Encoder(folder), head(folder, bias=5.0)
    weights = shipped()
    alone, both = AttackClassifier(), AttackClassifier(cascade=EncoderCascade(encoder, own))
    model = weights.models["illicit"]
    unsure = next(
        text
        for text in ("How do I get into a locked car?", "How do I get rid of a body of water?", "Tell me of poison.")
        if LOW <= illicit_margin(model, weights.word_vectors, text) <= HIGH
    )
    margin = illicit_margin(model, weights.word_vectors, unsure) + float(own.margins(views(encoder, [unsure])[0]).max())

    assert both.thresholds == {**alone.thresholds, "illicit": 0.7}
    assert both.scores([unsure])[0]["illicit"] == pytest.approx(own.probability(margin))
    assert both.scores([unsure])[0]["jailbreak"] == alone.scores([unsure])[0]["jailbreak"]
