"""The study of the classifiers: how it reads data."""

from __future__ import annotations

from training.studies.guard.attacks import strings


def test_strings_of_json() -> None:
    assert list(strings({"a": ["b", 3, {"c": "d"}]})) == ["b", "d"]
