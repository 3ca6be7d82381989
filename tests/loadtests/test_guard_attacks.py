"""The study of the classifiers: intervals, and where its section goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.guard_attacks import strings, wilson, write_section


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 50, 0.0, 0.0714), (90, 100, 0.8256, 0.9448), (50, 50, 0.9286, 1.0)]
)
def test_intervals_are_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=2e-3)


def test_strings_of_json() -> None:
    assert list(strings({"a": ["b", 3, {"c": "d"}]})) == ["b", "d"]


def test_a_section_replaces_its_older_self_and_keeps_notes_and_others(tmp_path: Path) -> None:
    page = tmp_path / "guard.md"
    page.write_text("# The guard, measured\n\n## Entities\n\nfirst\n")

    write_section(page, "## Attacks\n\nold")
    page.write_text(page.read_text().replace("<!-- notes -->", "<!-- notes -->\n\nread this"))
    page.write_text(page.read_text() + "\n## Costs\n\nlast\n")
    write_section(page, "## Attacks\n\nnew")

    text = page.read_text()
    assert "old" not in text
    assert [part for part in ("first", "new", "read this", "last") if part in text] == [
        "first",
        "new",
        "read this",
        "last",
    ]
    assert text.index("first") < text.index("new") < text.index("read this") < text.index("last")
