"""`signet data` as it is typed."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from training.data.cli import data
from training.registry import Registry


@dataclass
class Settings:
    home: Path


@pytest.fixture
def signet(home: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(data, [str(argument) for argument in arguments], obj=lambda: Settings(home))

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"What is {number * 37}?", "completion": f"word{number} and word{number * 7}"}
        for number in range(40)
    ]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows[:3]]))
    path = tmp_path / "data.yaml"
    path.write_text("method: data\nname: questions\nsources: raw.jsonl\nsplit: {heldout: 0.3}\n")
    return path


def test_a_set_is_built_shown_and_its_card_printed(signet: Callable[..., Result], recipe: Path, tiny: Registry) -> None:
    result = signet("build", recipe, "--json")
    assert result.exit_code == 0, result.output
    built = json.loads(result.stdout)
    text = signet("card", "questions").output
    card = json.loads(signet("card", "questions@1", "--json").output)
    shown = signet("show", "questions", "--model", "tiny", "--count", 2).output.split("\n\n")
    heldout = signet("show", "questions/heldout.jsonl", "--model", "tiny").output

    assert built["ref"] == "questions@1"
    assert built["card"]["records"]["read"] == 43
    assert built["megabytes_per_second"] > 0
    assert "3 equal to another" in text
    assert (card["ref"], card["digest"], card["records"]) == ("questions@1", built["digest"], built["card"]["records"])
    assert "train.jsonl:1: " in shown[0]
    assert "⟦word" in shown[0]
    assert shown[0].endswith("<|im_end|>⟧")
    assert "train.jsonl:2: " in shown[1]
    assert "heldout.jsonl:1: " in heldout


def test_tokens_are_shown_with_their_labels(signet: Callable[..., Result], tmp_path: Path, tiny: Registry) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "héy 😀", "label": "x"}\n')
    (tmp_path / "plain.txt").write_text("abc")

    labelled = signet("show", tmp_path / "texts.jsonl", "--model", "tiny").output
    plain = json.loads(signet("show", tmp_path / "plain.txt", "--model", "tiny", "--json").stdout)

    assert labelled.splitlines() == [f"{tmp_path}/texts.jsonl:1: x: 9 tokens, 0 learned", "héy 😀", ""]
    assert [(token["text"], token["learned"]) for token in plain["tokens"]] == [("a", False), ("b", True), ("c", True)]


def test_what_is_learned_is_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.data.cli import _marked
    from training.data.show import Piece

    pieces = [Piece(1, "Q", False), Piece(2, "A", True), Piece(3, "!", True), Piece(4, "\n", False)]

    assert _marked(pieces) == "Q⟦A!⟧\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert _marked(pieces) == "Q\x1b[32m\x1b[1mA!\x1b[0m\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("show", "absent", "--model", "tiny"), "absent: there is no such file, and no such data set in the registry"),
        (("show", "tiny", "--model", "tiny"), "tiny@1 is not a data set but base"),
        (("show", "raw.jsonl", "--model", "tiny", "--number", "99"), "raw.jsonl: has no record 99"),
        (("card", "absent"), "no checkpoint named 'absent'"),
        (("card", "tiny"), "tiny@1 is not a data set but base"),
        (("build", "sft.yaml"), "sft.yaml: method sft builds no data: signet train sft.yaml"),
        (("build", "data.yaml", "--set", "sources=absent"), "absent: there is no such file or folder"),
    ],
)
def test_mistakes_are_one_line(
    signet: Callable[..., Result],
    recipe: Path,
    tiny: Registry,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    why: str,
) -> None:
    monkeypatch.chdir(recipe.parent)
    Path("sft.yaml").write_text("method: sft\nname: x\nbase: tiny\ndata: {train: raw.jsonl}\nsteps: 1\n")

    result = signet(*arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
