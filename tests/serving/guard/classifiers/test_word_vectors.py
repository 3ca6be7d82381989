"""Meaning: unknown texts of known words lie where their words do, and what is out of place shows."""

from __future__ import annotations

import numpy as np

from serving.guard.classifiers.attacks import STRANGENESS, shipped, strange_windows
from serving.guard.classifiers.ngrams import word_hashes
from serving.guard.classifiers.word_vectors import NO_WORD_VECTORS, NUM_DIMENSIONS, WordVectors, directions


def made(**vectors: list[int]) -> WordVectors:
    hashes = {int(word_hashes(word)[0]): vector for word, vector in vectors.items()}
    rows = np.zeros((len(hashes), NUM_DIMENSIONS), dtype=np.int8)
    for place, value in enumerate(sorted(hashes)):
        rows[place, : len(hashes[value])] = hashes[value]
    return WordVectors(np.array(sorted(hashes), dtype=np.uint64), rows)


def test_a_text_is_the_sum_of_its_words_and_each_text_has_its_own() -> None:
    word_vectors = made(ship=[100, 0], sail=[0, 50])
    found = word_vectors.sums(["ship sail ship", "nothing known", "", "sail"])

    assert found[:, :2].tolist() == [[200, 50], [0, 0], [0, 0], [0, 50]]
    assert (
        word_vectors.features(["ship", "ship ship ship"]).tolist()[0]
        == word_vectors.features(["ship ship ship"]).tolist()[0]
    )
    assert not NO_WORD_VECTORS.features(["ship"]).any()


def test_the_shipped_table_knows_what_is_alike() -> None:
    bomb, grenade, biscuit = directions(shipped().word_vectors.sums(["bomb", "grenade", "biscuit"]))

    assert float(bomb @ grenade) > float(bomb @ biscuit) + 0.2


def test_a_sentence_on_another_subject_is_the_furthest_apart() -> None:
    text = (
        "The harbour was dredged last spring. Larger ships now reach the quay at low tide. The port authority expects "
        "more cargo. How does the immune system remember a vaccine? Cranes unload containers from each vessel by night."
    )
    place = STRANGENESS.index("most_apart")
    found = {window: shown[place] for window, shown in strange_windows(shipped().word_vectors, text)}

    assert max(found, key=lambda window: found[window]) == "How does the immune system remember a vaccine?"
