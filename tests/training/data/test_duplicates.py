from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data.duplicates import ALIKE, EQUAL, Duplicates, bands_for
from training.data.records import Record
from training.recipes.data import DeduplicateSettings


def dropped(tmp_path: Path, *texts: str, heldout: tuple[int, ...] = (), **settings: Any) -> dict[int, str]:
    duplicates = Duplicates(DeduplicateSettings(**settings), 0, tmp_path / "signatures")
    for number, text in enumerate(texts):
        duplicates.add(Record("text", {"text": text}, "f", "heldout" if number in heldout else None))
    return duplicates.resolve().dropped


def test_equal_texts_are_one(tmp_path: Path) -> None:
    assert dropped(tmp_path, "A  b", "c", "a b\n", "A B", near=None) == {2: EQUAL, 3: EQUAL}
    assert dropped(tmp_path, "A b", "a b", exact=False, near=None) == {}
    assert dropped(tmp_path) == {}


def test_digits_and_punctuation_count_unless_they_are_folded(tmp_path: Path) -> None:
    texts = ["Call 0800 123, win £100!", "Call 0900 77 win £5000"]

    assert dropped(tmp_path, *texts, near=None) == {}
    assert dropped(tmp_path, *texts, near=None, fold_digits=True) == {1: EQUAL}


def test_nearly_equal_texts_are_one(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(60)]
    one_changed = " ".join([*words[:30], "other", *words[31:]])
    half = " ".join([*words[:30], *(f"new{number}" for number in range(30))])
    long = " ".join(words)

    assert dropped(tmp_path, long, half, one_changed, long.upper()) == {2: ALIKE, 3: EQUAL}


def test_texts_without_words_are_not_alike(tmp_path: Path) -> None:
    assert dropped(tmp_path, "...", "!!!", "???") == {}


def test_what_is_held_out_by_its_publisher_stays(tmp_path: Path) -> None:
    assert dropped(tmp_path, "a b", "c", "A b", heldout=(2,), near=None) == {0: EQUAL}
    assert dropped(tmp_path, "a b", "A B", heldout=(0, 1), near=None) == {1: EQUAL}


def test_other_labels_of_what_is_dropped_are_counted(tmp_path: Path) -> None:
    duplicates = Duplicates(DeduplicateSettings(), 0, tmp_path / "signatures")
    for label in ("x", "x", "y"):
        duplicates.add(Record("labelled", {"text": "a", "label": label}, "f"))

    assert duplicates.resolve().num_conflicts == 1


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.95])
def test_signatures_estimate_the_shared_part(tmp_path: Path, similarity: float) -> None:
    """The part of equal values in two signatures is the sets' Jaccard similarity, within four standard deviations."""
    duplicates = Duplicates(DeduplicateSettings(), 1, tmp_path / "signatures")
    random = np.random.default_rng(0)
    shared = round(1000 * similarity)
    sets = random.integers(0, 2**63, 2000 - shared, dtype=np.uint64)
    first, second = sets[:1000], sets[1000 - shared :]
    truth = shared / len(sets)

    found = float(np.mean(duplicates._signature(first) == duplicates._signature(second)))

    assert abs(found - truth) < 4 * (truth * (1 - truth) / 128) ** 0.5
    bands, rows = bands_for(similarity)
    assert bands * rows <= 128
    assert 1 - (1 - similarity**rows) ** bands >= 0.99
