"""Training a second look: it finds the view of a text that matters, and goes into the weights with a digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.guard.classifiers.encoder import digest_of
from serving.guard.classifiers.encoder_cascade import EncoderCascade
from serving.guard.classifiers.linear import load
from tests.support.tiny_bert import write_tiny_bert
from training.errors import SourceError
from training.guard.classifiers.encoder_cascade import Bags, fit_head
from training.guard.classifiers.train import train
from training.recipes.guard import ClassifierRecipe


def bags(chance: np.random.Generator, count: int) -> tuple[Bags, np.ndarray]:
    """Texts of one to six views; in every second text one view is of a kind that no other text has."""
    sizes = chance.integers(1, 7, count)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    rows = chance.normal(0, 1, (starts[-1], 24)).astype(np.float32)
    labels = np.arange(count) % 2 == 0
    for text in np.flatnonzero(labels):
        rows[chance.integers(starts[text], starts[text + 1]), :3] += 4
    return Bags(3 + rows * np.linspace(0.1, 5, 24, dtype=np.float32), starts), labels


def test_a_head_learns_from_texts_which_view_matters() -> None:
    chance = np.random.default_rng(1)
    seen, labels = bags(chance, 1200)
    new, truth = bags(chance, 400)

    head = fit_head(seen, labels, 3)

    largest = np.maximum.reduceat(head.margins(new.rows), new.starts[:-1])
    assert ((largest > 0) == truth).mean() > 0.9
    assert np.array_equal(head.hidden, fit_head(seen, labels, 3).hidden)


def test_a_recipe_with_a_second_look_has_it_in_its_weights(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "encoder")
    recipe = ClassifierRecipe(method="guard-classifiers", name="small", size=20, epochs=1, second_look=Path("encoder"))

    trained = train(recipe, tmp_path, show=False)

    trained.write(tmp_path / "weights.npz")
    head = load(tmp_path / "weights.npz").encoder_head
    assert head is not None
    assert head.digest == digest_of(folder)
    assert 0 < head.threshold < 1
    assert np.isfinite(EncoderCascade.open(folder, head).margin("The ship is in the harbour.", lambda _: 0.0))
    assert 0 <= trained.evaluation["second_look_calibration_recall"] <= 1
    assert trained.card["second look"]["encoder"] == "Tiny encoder"


def test_what_gateways_cannot_run_is_refused(tmp_path: Path) -> None:
    recipe = ClassifierRecipe(method="guard-classifiers", name="small", size=20, epochs=1, second_look=Path("nowhere"))

    with pytest.raises(SourceError, match="nowhere: holds no encoder"):
        train(recipe, tmp_path, show=False)
