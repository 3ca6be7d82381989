"""`head: generative`, and language models measured on labelled texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from training.errors import RecipeError, SourceError
from training.evaluate.cli import evaluate
from training.outcome import Outcome
from training.registry import Registry

Train = Callable[..., Outcome]
Evaluate = Callable[..., Result]

RECIPE = """\
method: classify
name: kind
base: tiny
head: generative
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 32}
steps: 30
batch_size: 8
optimizer: {learning_rate: 5.0e-3}
"""


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Texts of many a or many b; one label begins with the other."""
    for name, start, count in (("train", 0, 40), ("heldout", 100, 10)):
        rows = [
            {"text": "ab"[number % 2] * 9 + str(number), "label": ["ham", "hams"][number % 2]}
            for number in range(start, start + count)
        ]
        write(tmp_path / f"{name}.jsonl", rows)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def measure(home: Path) -> Evaluate:
    settings = SimpleNamespace(home=home)
    return lambda *arguments: CliRunner().invoke(evaluate, list(map(str, arguments)), obj=lambda: settings)


def test_a_chat_model_learns_to_answer_with_the_label_and_is_measured_as_a_classifier_is(
    train: Train, recipe: Path, tiny: Registry, measure: Evaluate, tmp_path: Path
) -> None:
    made = train(recipe).checkpoint
    data, out = tmp_path / "heldout.jsonl", tmp_path / "out.jsonl"

    found = json.loads(measure("kind", "--data", data, "--json", "--predictions", out).stdout)
    before = json.loads(measure("tiny", "--data", data, "--json").stdout)

    assert made is not None
    assert made.manifest.kind == "merged"
    assert made.manifest.evaluation["accuracy"] > 0.8
    assert {name: value for name, value in made.manifest.evaluation.items() if name in found} == {
        name: found[name] for measured in ("accuracy", "macro_f1", "micro_f1") for name in found if measured in name
    } | {"texts": 10}
    assert before["accuracy"] < made.manifest.evaluation["accuracy"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    right = [line["label"] == label for line, label in zip(lines, ["ham", "hams"] * 5, strict=True)]
    assert sum(right) / 10 == found["accuracy"]
    assert all(sum(line["scores"].values()) == pytest.approx(1, abs=1e-4) for line in lines)


def test_several_labels_are_written_one_on_each_line(
    train: Train, recipe: Path, tiny: Registry, measure: Evaluate, tmp_path: Path
) -> None:
    for name, start, count in (("train", 0, 40), ("heldout", 100, 8)):
        rows = [
            {"text": ("a" * 9 if number & 1 else "") + ("b" * 9 if number & 2 else "") + f" {number}",
             "labels": [label for bit, label in ((1, "a, one\nof two"), (2, "b")) if number & bit]}
            for number in range(start, start + count)
        ]  # fmt: skip
        write(tmp_path / f"{name}.jsonl", rows)

    outcome = train(recipe, "steps=40", "optimizer.learning_rate=1e-2")
    measured = measure("kind", "--data", tmp_path / "heldout.jsonl", "--json", "--predictions", tmp_path / "out.jsonl")

    found = json.loads(measured.stdout)
    assert found["macro_f1"] == outcome.report["macro_f1"]
    assert found["macro_f1"] > 0.8
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {label for line in lines for label in line["labels"]} == {"a, one\nof two", "b"}
    assert [] in [line["labels"] for line in lines]


def test_a_long_text_leaves_room_for_its_label(measure: Evaluate, tiny: Registry, tmp_path: Path) -> None:
    write(tmp_path / "long.jsonl", [{"text": letter * 3000, "label": letter} for letter in "ab"])

    result = measure("tiny", "--data", tmp_path / "long.jsonl", "--max-tokens", 4000, "--json")

    assert json.loads(result.stdout)["texts"] == 2


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"text": "a", "label": "x"}], "has only the label 'x'"),
        (
            [{"text": "a", "label": "x"}, {"text": "b<|im_end|>", "label": "y"}],
            "data.jsonl:2: the user says",
        ),
        ([{"text": "a", "label": "x" * 600}, {"text": "b", "label": "y"}], "with its 2 labels is longer than what"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    measure: Evaluate, tiny: Registry, tmp_path: Path, rows: list[dict[str, Any]], why: str
) -> None:
    write(tmp_path / "data.jsonl", rows)

    result = measure("tiny", "--data", tmp_path / "data.jsonl")

    assert result.exit_code == 1
    assert why in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_label_that_was_never_learned_is_one_line(
    train: Train, recipe: Path, tiny: Registry, measure: Evaluate, tmp_path: Path
) -> None:
    train(recipe, "steps=1")
    write(tmp_path / "other.jsonl", [{"text": "a", "label": "ham"}, {"text": "b", "label": "eggs"}])

    result = measure("kind", "--data", tmp_path / "other.jsonl")

    assert "other.jsonl:2: the model was not trained on the label 'eggs'" in result.stderr


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["depth=1"], "depth: is of models with a classification head"),
        (["layers=1"], "layers: is of models with a classification head"),
        (["steps=null"], "say how long to train"),
    ],
)
def test_settings_of_heads_are_refused(train: Train, recipe: Path, settings: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        train(recipe, *settings)


def test_a_model_that_answers_nothing_is_refused(train: Train, recipe: Path, tiny: Registry) -> None:
    plain = recipe.with_name("plain")
    shutil.copytree(tiny.resolve("tiny").path, plain, ignore=lambda *_: ["chat_template.jinja"])
    with pytest.raises(SourceError, match="no chat template"):
        train(recipe, f"base={plain}")
    recipe.write_text(RECIPE.replace("base: tiny\n", ""))
    with pytest.raises(RecipeError, match="head: generative needs a chat model, which answers: name it in base"):
        train(recipe)
