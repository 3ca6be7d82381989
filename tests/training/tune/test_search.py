"""`signet tune` on the tiny model: whole searches, of seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from training.outcome import Outcome
from training.registry import Registry
from training.tune.cli import tune

RECIPE = """\
method: classify
name: kind
base: tiny
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 16}
steps: 4
batch_size: 4
search:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  batch_size: {low: 2, high: 6}
  adapter: [null, {kind: lora, rank: 2}]
"""


@dataclass
class Settings:
    home: Path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Texts of many a or many b."""
    for name, count in (("train", 24), ("heldout", 12)):
        lines = [
            json.dumps({"text": "ab"[number % 2] * 9 + name[0] + str(number), "label": "ab"[number % 2]})
            for number in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def run(home: Path) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(tune, [str(argument) for argument in arguments], obj=lambda: Settings(home))

    return run


def test_a_search_goes_on_up_to_its_trials_and_writes_a_recipe_that_trains(
    run: Callable[..., Result], recipe: Path, tiny: Registry, home: Path, train: Callable[..., Outcome]
) -> None:
    first = json.loads(run(recipe, "--trials", 2, "--json").stdout)
    again = run(recipe, "--trials", 6, "--json")
    result = json.loads(again.stdout)

    assert [trial["number"] for trial in first["trials"]] == [0, 1]
    assert [trial["number"] for trial in result["trials"]] == list(range(6))
    assert result["trials"][:2] == first["trials"]
    assert result["measure"] == "macro_f1"
    complete = [trial["value"] for trial in result["trials"] if trial["state"] == "complete"]
    assert result["best"]["value"] == max(complete)
    assert not tiny.has("kind")
    assert not list((home / "tune").glob("*/trial-*"))
    # The file stands elsewhere than the data: its paths are absolute.
    best = train(Path(result["recipe"]))
    assert best.report["macro_f1"] == result["best"]["value"]
    written = yaml.safe_load(Path(result["recipe"]).read_text())
    assert written["optimizer"]["learning_rate"] == result["best"]["settings"]["optimizer.learning_rate"]
    assert "search" not in written
    assert all(Path(plot).read_text().startswith("<svg") for plot in result["plots"])
    assert run(recipe, "--trials", 1, "--json").stdout == again.stdout
    assert "6 trials" in run(recipe, "--trials", 6).stdout
