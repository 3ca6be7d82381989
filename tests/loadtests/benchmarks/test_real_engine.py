"""The comparison's arithmetic and its errors, against the stand-in; the real engine is measured by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.benchmarks import real_engine
from loadtests.benchmarks.gateway import set_pace
from loadtests.benchmarks.real_engine import Comparison


def test_the_same_engine_on_both_sides_is_about_one(standin_url: str, tmp_path: Path) -> None:
    set_pace(standin_url, 10)
    try:
        options = ["--engine-url", standin_url, "--gateway-url", standin_url, "--key", "sk-secret"]
        small = ["--rounds", "3", "--streams", "8", "--mark-streams", "0", "--tokens", "16"]
        done = CliRunner().invoke(real_engine.main, [*options, *small, "--out", str(tmp_path / "out.md")])
    finally:
        set_pace(standin_url, 0)

    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "out.json").read_text())["comparisons"]
    assert [comparison["name"] for comparison in written] == ["gateway ÷ direct"]
    assert [len(side) for comparison in written for side in comparison["tokens_per_s"]] == [3] * 2
    assert all(comparison["ratio"] == pytest.approx(1, abs=0.3) for comparison in written)
    assert "sk-secret" not in (tmp_path / "out.md").read_text()


def test_marks_that_are_off_are_not_compared_as_marked(standin_url: str) -> None:
    """The stand-in knows no marks, so its answers are unmarked whatever was asked."""
    options = ["--engine-url", standin_url, "--gateway-url", standin_url, "--key", "k"]

    done = CliRunner().invoke(real_engine.main, [*options, "--rounds", "1", "--streams", "2", "--tokens", "2"])

    assert done.exit_code == 1
    assert "The marked answers say X-Signet-Mark: off. Nothing to compare." in done.output


def test_the_ratio_is_the_median_of_paired_rounds() -> None:
    made = Comparison("gateway ÷ direct", 32, ("gateway", "direct"), ([90, 200, 97], [100, 200, 100]), ([], []))

    assert made.ratio == 0.97
    assert "| **0.970** | 0.900–1.000 |" in made.line()


def test_a_gateway_that_is_not_there_is_one_line() -> None:
    options = ["--engine-url", "http://127.0.0.1:9", "--gateway-url", "http://127.0.0.1:9", "--key", "k"]

    done = CliRunner().invoke(real_engine.main, options)

    assert done.exit_code == 1
    assert done.output.startswith("Error: http://127.0.0.1:9/v1/models does not answer")
