from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from training.compress import cli, quantize
from training.compress.quantize import Outcome
from training.registry import Registry


@pytest.fixture
def outcome(tiny: Registry, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What every run of the command gives; its arguments are in `asked`."""
    checkpoint = tiny.resolve("tiny@1")
    parents = checkpoint.manifest.model_copy(update={"parents": [checkpoint.manifest.as_ref()]})
    made = Outcome(
        checkpoint=type(checkpoint)(checkpoint.path, parents),
        settings={"group_size": 64},
        samples=16,
        perplexity_before=12.5,
        perplexity_after=13.25,
        tokens=100,
        bytes_before=269_000_000,
        bytes_after=113_000_000,
        seconds=61.2,
    )
    monkeypatch.setattr(quantize, "quantize", lambda source, request, home, registry: made)
    return made


def invoke(home: Path, *arguments: str) -> Result:
    context: dict[str, Any] = {"obj": lambda: SimpleNamespace(home=home)}
    return CliRunner().invoke(cli.quantize, arguments, **context)


def test_the_schemes_of_the_command_are_those_of_the_code() -> None:
    assert cli.SCHEMES == quantize.SCHEMES


def test_an_unknown_scheme_is_told_with_those_that_exist(home: Path) -> None:
    result = invoke(home, "tiny@1", "--scheme", "w2a2")

    assert result.exit_code == 2
    assert "'w8a8', 'w4a16-gptq'" in result.stderr


def test_the_outcome_in_words(home: Path, outcome: Outcome) -> None:
    result = invoke(home, "tiny@1", "--scheme", "w8a8")

    assert result.exit_code == 0, result.output
    assert "113 MB, was 269 MB; held-out perplexity 12.50 before, 13.25 after; 61 s" in result.stdout
    assert "\nPerplexity of " in result.stdout
    assert "signet serve --model tiny@1" in result.stdout


def test_the_outcome_as_json(home: Path, outcome: Outcome) -> None:
    answer = json.loads(invoke(home, "tiny@1", "--scheme", "w4a16-gptq", "--json").stdout)

    assert answer["ref"] == "tiny@1"
    assert answer["parent"] == "tiny@1"
    assert answer["perplexity_after"] == 13.25
    assert answer["bytes_after"] == 113_000_000
    assert answer["settings"] == {"group_size": 64}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing@1", "--scheme", "w8a8"], "no checkpoint named 'nothing'"),
        (["tiny@1", "--scheme", "w8a8", "--calibration", "/no/chats.jsonl"], "/no/chats.jsonl: cannot be read"),
        (["tiny@1", "--scheme", "w8a8", "--name", "Not A Name"], "is no name for a checkpoint"),
    ],
    ids=["ref", "calibration", "name"],
)
def test_mistakes_end_in_one_line(tiny: Registry, home: Path, arguments: list[str], why: str) -> None:
    result = invoke(home, *arguments)

    assert result.exit_code == 1
    assert why in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")


def test_help_imports_nothing_heavy() -> None:
    program = "import sys, training.compress.cli; sys.exit(bool({'torch', 'transformers', 'vllm'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_schemes_beside_each_other(home: Path, outcome: Outcome) -> None:
    shown = invoke(home, "tiny@1", "--compare", "w8a8, w4a16-gptq")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[1].split() == ["as", "it", "is", "269", "12.50", "1.000", "tiny@1"]
    assert [line.split()[:4] for line in lines[2:4]] == [
        ["w8a8", "113", "13.25", "1.060"],
        ["w4a16-gptq", "113", "13.25", "1.060"],
    ]

    answer = json.loads(invoke(home, "tiny@1", "--compare", "w4a16-gptq,w8a8", "--json").stdout)
    assert [row["scheme"] for row in answer["schemes"]] == ["w4a16-gptq", "w8a8"]
    assert (answer["bytes"], answer["perplexity"]) == (269_000_000, 12.5)
    assert answer["schemes"][0]["ratio"] == pytest.approx(1.06)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say which scheme"),
        (["--scheme", "w8a8", "--compare", "w8a8"], "say which scheme"),
        (["--compare", "w8a8,w2a2"], "'w2a2' is none of w8a8, w4a16-gptq"),
        (["--compare", "w8a8", "--name", "x"], "--name is for one scheme"),
    ],
)
def test_what_is_compared_must_be_known(home: Path, arguments: list[str], why: str) -> None:
    result = invoke(home, "tiny@1", *arguments)

    assert result.exit_code == 2
    assert why in result.stderr
