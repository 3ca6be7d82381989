from __future__ import annotations

import pytest

from loadtests.benchmarks.first_hour import Asked


@pytest.mark.parametrize(
    ("text", "finish_reason", "right"),
    [
        ("The capital of France is Paris.", "stop", True),
        ("Paris.", "stop", True),
        (" The capital of France is Paris, France. It lies on the Seine.", "stop", True),
        ("The capital of France is Paris.", "length", False),
        ("The capital of France is Lyon. Paris is another city.", "stop", False),
        ("L'\u00c9toile, la Marseillaise, Paris, la femme au martyre.", "stop", False),
        ("The capital of France is Paris. La femme est la femme.", "stop", False),
        ("", "stop", False),
    ],
)
def test_right_is_what_says_it_at_once_in_english_and_ends(text: str, finish_reason: str, right: bool) -> None:
    assert Asked(text, finish_reason, 8, 1.0).right is right
