"""The comparison with published figures: what the page says of it stays true."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.benchmarks import planner_published
from loadtests.benchmarks.planner import Row
from loadtests.benchmarks.planner_published import Published, rows, section

PAGE = Path(__file__).parents[3] / "docs" / "benchmarks" / "planner.md"


def _ratio(row: Published) -> float:
    return Row(row.what, row.planned(), row.measured, row.unit, row.bar).ratio


def test_the_page_has_what_is_computed_now() -> None:
    assert section() in PAGE.read_text(), (
        "run: python -m loadtests.benchmarks.planner_published --out docs/benchmarks/planner.md"
    )


def test_few_answers_at_once_are_as_near_as_the_page_says() -> None:
    few = [row for row in rows() if row.unit == "ms" and row.measured < 20]

    assert len(few) >= 8
    assert [row.what for row in few if _ratio(row) != pytest.approx(1, abs=0.15)] == []


def test_most_rows_were_not_used_to_fit() -> None:
    assert sum(row.is_fitted for row in rows()) < len(rows()) / 2


def test_a_page_gets_its_section(tmp_path: Path) -> None:
    done = CliRunner().invoke(planner_published.main, ["--out", str(tmp_path / "planner.md")])

    assert done.exit_code == 0, done.output
    assert "## Accelerators\n" in (tmp_path / "planner.md").read_text()
