from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.errors import DataError
from training.evaluate.scores import Score
from training.studies.cli import study as command
from training.studies.page import pages, verdict_sentence, with_interval, write_pages
from training.studies.study import Result, Sample, Study, mean_over_seeds

DOCS = Path(__file__).parents[3] / "docs" / "studies"


def result(samples: Sequence[Sample]) -> Result:
    return Result(
        name="norms",
        samples=samples,
        date="2026-01-31",
        command="signet study norms",
        seconds=9.0,
        cpu_seconds=5.0,
        machine="one thread on a machine of two cores",
        versions={"torch": "2"},
    )


def claim(holds: str) -> Study:
    def measure(trial: object) -> Sample:
        raise NotImplementedError

    return Study(claim="", number="", holds=holds, bar=1.0, measure=measure)  # type: ignore[arg-type]


def test_an_interval_is_students() -> None:
    """Of 1, 2, 3: mean 2, standard error 1/√3, t of two degrees of freedom 4.303."""
    found = mean_over_seeds([1, 2, 3])

    assert found.value == 2
    assert found.high - 2 == pytest.approx(4.303 / 3**0.5)
    assert 2 - found.low == pytest.approx(4.303 / 3**0.5)


@pytest.mark.parametrize(
    ("holds", "low", "high", "verdict"),
    [
        ("above", 1.1, 1.3, "held"),
        ("above", 0.7, 0.9, "not held"),
        ("above", 0.9, 1.1, "undecided"),
        ("below", 0.7, 0.9, "held"),
        ("below", 1.1, 1.3, "not held"),
        ("below", 1.0, 1.1, "undecided"),
    ],
)
def test_verdicts(holds: str, low: float, high: float, verdict: str) -> None:
    assert claim(holds).verdict(Score((low + high) / 2, low, high)) == verdict


@pytest.mark.parametrize(
    ("holds", "low", "high", "said"),
    [
        ("above", 1.1, 1.3, "Held: the whole interval is above 1."),
        ("above", 0.7, 0.9, "Not held: the whole interval is below 1, so these runs refute the claim at this size."),
        ("below", 1.1, 1.3, "Not held: the whole interval is above 1, so these runs refute the claim at this size."),
        ("below", 0.9, 1.1, "Undecided: the interval includes 1,"),
    ],
)
def test_a_verdict_says_what_follows(holds: str, low: float, high: float, said: str) -> None:
    assert verdict_sentence(claim(holds), Score((low + high) / 2, low, high)).startswith(said)


def test_pages_are_what_their_results_lead_to() -> None:
    """Nobody writes a figure by hand: every page comes from the figures beside it."""
    made = pages(DOCS)

    kept = {path.name: path.read_text() for path in DOCS.iterdir() if path.suffix in (".md", ".svg")}
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_a_result_becomes_a_page_a_plot_and_a_row_of_the_index(tmp_path: Path) -> None:
    samples = [Sample(number=number, table={"loss": 2.5}) for number in (0.99, 0.98)]

    write_pages(result(samples), tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "norms.json", "norms.md", "norms.svg"]
    page = (tmp_path / "norms.md").read_text()
    for said in ("2026-01-31", "$ signet study norms", "one thread on a machine of two cores", "seeds 0 to 1"):
        assert said in page
    index = (tmp_path / "README.md").read_text().splitlines()
    assert [line.rsplit("|", 3)[1:3] for line in index if "[norms](norms.md)" in line] == [[" undecided ", " 5 s "]]
    assert any("not run yet" in line for line in index)
    assert len({line.count("|") for line in index if line.startswith("|")}) == 1


def test_a_result_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "norms.json").write_text('{"samples": []')

    with pytest.raises(DataError, match=r"norms\.json: is not a study's result"):
        pages(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((2.0, 2.0), "2, the same for every seed"),
        ((1.0001, 1.0002), "1.00015 (0.99951 to 1.00079)"),
        ((100.0, 300.0), "200 (-1071 to 1471)"),
        ((1e-6, 3e-6), "2e-06 (-1.1e-05 to 1.5e-05)"),
    ],
)
def test_figures_have_the_digits_that_their_interval_leaves(values: tuple[float, float], said: str) -> None:
    assert with_interval(mean_over_seeds(values)) == said


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments))
    return result.exit_code, result.output


def test_the_list_names_every_study() -> None:
    code, said = run("--list")

    assert code == 0
    assert "residuals" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a study"),
        (("nobody",), "nobody is not a study: there are heads, norms"),
        (("norms", "--smallest", "--out", "folder"), "--smallest cannot be combined with --out"),
        (("norms", "--seeds", "1"), "--seeds"),
        (("norms", "--text", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    code, output = run(*arguments)

    assert code != 0
    assert said in output
    assert "Traceback" not in output


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog, and æther too\n" * 200)

    code, output = run("norms", "--smallest", "--seeds", "2", "--text", str(text), "--json")

    assert code == 0, output
    said = json.loads(output.splitlines()[-1])
    assert said["verdict"] in ("held", "not held", "undecided")
    assert said["number_low"] <= said["number"] <= said["number_high"]


def test_too_little_text_is_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("short")

    code, output = run("norms", "--smallest", "--text", str(text))

    assert (code, output.count("\n")) == (1, 1)
    assert "too little text" in output
