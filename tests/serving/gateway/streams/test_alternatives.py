"""Alternatives of which only words are kept are told as if a cleaner had read them all as they came."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.streams import alternatives
from serving.gateway.streams.alternatives import Alternatives
from serving.guard import Guard, GuardSettings
from tests.serving.gateway.streams.restless import RestlessGuard

GUARD = Guard(GuardSettings())
EMAIL = "jane.doe@example.org"
ODD = [
    " a",
    ", ",
    "b.",
    " very",
    "ly",
    "'s",
    "",
    "\n",
    "!",
    " (",
    "4",
    " é",
    "x" * 14,
    "y" * 50,
    EMAIL,
    EMAIL[:6],
    EMAIL[6:],
]
WORDS = [" the", " sea", ", and", " calm"]
PLACES = st.lists(
    st.one_of(
        st.lists(st.sampled_from(WORDS), min_size=2, max_size=2), st.lists(st.sampled_from([*WORDS, *ODD]), max_size=3)
    ),
    max_size=16,
)


@settings(max_examples=200, deadline=None)
@given(places=PLACES)
def test_words_that_are_only_kept_are_told_as_if_they_had_been_read(places: list[list[str]]) -> None:
    restless: Any = RestlessGuard(GUARD)
    lazy, eager = Alternatives(GUARD), Alternatives(restless)
    for texts in places:
        assert lazy.read(texts) == eager.read(texts)
        assert (lazy.num_settled, lazy.refused) == (eager.num_settled, eager.refused)
    lazy.finish()
    eager.finish()
    assert (lazy.num_settled, lazy.refused, lazy.changed) == (eager.num_settled, eager.refused, eager.changed)


def test_a_value_is_refused_in_all_its_places_whatever_came_before() -> None:
    read = Alternatives(GUARD)
    for _ in range(600):  # more than are kept
        read.read([" the", " sea"])
    first = read.read([" calm", f" {EMAIL[:6]}"])
    read.read([" bay", EMAIL[6:]])
    read.read([" and", " the"])
    read.finish()

    assert {first, first + 1} <= read.refused <= {first, first + 1, first + 2}
    assert read.num_settled == read.num_read


def test_no_more_texts_are_known_by_themselves_than_a_vocabulary_has() -> None:
    read = Alternatives(GUARD)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for first, second, third in product(letters, repeat=3):
        read.read([f" {first}{second}{third}"])
    assert len(alternatives._last_words) <= alternatives._MOST_TEXTS
