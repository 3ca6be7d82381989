"""Folds keep places, and see through what reads as ASCII."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.text.folding import fold, fold_wide, origins


@given(st.text())
def test_a_fold_is_as_long_as_its_text(text: str) -> None:
    assert len(fold(text)) == len(text)


@given(st.text())
def test_a_wide_fold_says_where_each_character_came_from(text: str) -> None:
    folded, origin = fold_wide(text), origins(text)

    assert origin is None or len(origin) == len(folded)
    assert folded == "".join(fold_wide(char) for char in text)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("\uff41\uff20\uff42\uff0e\uff43\uff4f", "a@b.co"),
        ("\U0001d41a\U0001d7cf", "a1"),
        ("\u0661\u06f2\u0969", "123"),
        ("\u2011\u2013\u2212\u00a0\u2009\u3000", "---   "),
        ("\u00e9\u00fc\u0142\u0436", "euxx"),
        ("<\uff5ca\u2581b\uff5c>", "<|a_b|>"),
        ("\u4f60\u597d", "\u4f60\u597d"),
    ],
)
def test_what_reads_as_ascii_folds_to_it(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_ligatures_widen_with_their_places() -> None:
    assert (fold_wide("<\ufb01m>"), origins("<\ufb01m>")) == ("<fim>", [0, 1, 1, 2, 3])
