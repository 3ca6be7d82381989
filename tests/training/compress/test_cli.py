from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from training.compress import cli, compare, quantize, served
from training.compress.errors import EngineFailed
from training.compress.quantize import Outcome
from training.compress.served import Served
from training.evaluate.changes import SetChange, TaskChange
from training.evaluate.scores import Score
from training.outcome import Cost
from training.registry import Registry


@pytest.fixture
def outcome(tiny: Registry, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What every run of the command gives."""
    checkpoint = tiny.resolve("tiny@1")
    parents = checkpoint.manifest.model_copy(update={"parents": [checkpoint.manifest.as_ref()]})
    made = Outcome(
        checkpoint=type(checkpoint)(checkpoint.path, parents),
        settings={"group_size": 64},
        samples=16,
        sets={
            "chats": SetChange(12.5, 13.25, Score(1.06, 1.05, 1.07), tokens=100),
            "wiki": SetChange(30.0, 33.0, Score(1.1, 1.08, 1.12), tokens=500),
        },
        task=TaskChange(Score(0.5, 0.4, 0.6), Score(0.45, 0.35, 0.55), Score(-0.05, -0.1, 0.0), questions=20),
        bits_before=16.0,
        bits=4.25,
        bits_whole=6.7,
        bytes_before=269_000_000,
        bytes_after=113_000_000,
        cost=Cost(61.2, 4096, 1_900_000_000),
        losses_before={"chats": [1.0]},
        texts={"chats": []},
    )

    def run(source: object, request: object, home: Path, store: object, losses_before: object = None) -> Outcome:
        return made

    monkeypatch.setattr(quantize, "quantize", run)
    monkeypatch.setattr(compare, "quantize", run)
    return made


def invoke(home: Path, *arguments: str) -> Result:
    context: dict[str, Any] = {"obj": lambda: SimpleNamespace(home=home)}
    return CliRunner().invoke(cli.quantize, arguments, **context)


def test_an_unknown_scheme_is_told_with_the_form_of_their_names(home: Path) -> None:
    result = invoke(home, "tiny@1", "--scheme", "w2a2")

    assert result.exit_code == 2
    assert "'w2a2' is not a scheme: write METHOD[-sym|-asym][-gN][-mixed]" in result.stderr


def test_the_outcome_in_words(home: Path, outcome: Outcome) -> None:
    result = invoke(home, "tiny@1", "--scheme", "w8a8")

    assert result.exit_code == 0, result.output
    assert "113 MB, was 269 MB, 4.25 bits a weight; held-out perplexity 12.50 before, 13.25 after; " in result.stdout
    assert "; 61 s, 4,096 tokens, 1.9 GB at the peak\n" in result.stdout
    assert "wiki: perplexity 30.00 before, 33.00 after, ÷ 1.100 (1.080 to 1.120)\n" in result.stdout
    assert "Questions answered right: 0.500 (0.400 to 0.600) before, 0.450" in result.stdout
    assert "\nPerplexity of " in result.stdout
    assert "signet serve --model tiny@1" in result.stdout


def test_the_outcome_as_json(home: Path, outcome: Outcome) -> None:
    answer = json.loads(invoke(home, "tiny@1", "--scheme", "w4a16-gptq", "--json").stdout)

    assert answer["ref"] == "tiny@1"
    assert answer["parent"] == "tiny@1"
    assert answer["perplexity_after"] == 13.25
    assert answer["bytes_after"] == 113_000_000
    assert answer["settings"] == {"group_size": 64}
    assert answer["bits_per_weight"] == 4.25
    assert answer["sets"]["wiki"]["ratio_high"] == 1.12
    assert answer["peak_bytes"] == 1_900_000_000


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nothing@1", "--scheme", "w8a8"], "no checkpoint named 'nothing'"),
        (["tiny@1", "--scheme", "w8a8", "--calibration", "/no/chats.jsonl"], "/no/chats.jsonl: cannot be read"),
        (["tiny@1", "--scheme", "w8a8", "--name", "Not A Name"], "is not a checkpoint name"),
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
    shown = invoke(home, "tiny@1", "--compare", "w8a8, gptq", "--no-engine")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["MB", "bits", "chats", "÷", "(95%)", "wiki", "÷", "(95%)", "right", "s", "checkpoint"]
    assert lines[1].split() == ["as", "it", "is", "269", "16", "12.50", "1", "30.00", "1", "0.500", "–", "tiny@1"]
    assert lines[2].split()[:7] == ["w8a8", "113", "4.25", "13.25", "1.060", "(1.050", "to"]
    assert lines[3].startswith("gptq")
    assert (home / "plots" / "tiny-1-quantized.svg").read_text().startswith("<svg")

    plot = home / "own.svg"
    shown = invoke(home, "tiny@1", "--compare", "gptq,w8a8", "--no-engine", "--plot", str(plot), "--json")
    answer = json.loads(shown.stdout)
    assert [row["scheme"] for row in answer["schemes"]] == ["gptq", "w8a8"]
    assert (answer["bytes"], answer["perplexity"], answer["plot"]) == (269_000_000, 12.5, str(plot))
    row = answer["schemes"][0]
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (1.06, 1.05, 1.07)
    assert (row["bits_per_weight"], row["tokens_per_s"]) == (4.25, None)
    assert row["sets"]["wiki"]["perplexity"] == 33
    assert row["task"]["difference"] == -0.05
    assert "chats" in plot.read_text()


def test_the_engine_is_asked_with_each_and_with_the_original(
    home: Path, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(ref: str, sets: object, home: Path, log: Path) -> Served:
        if ref == "tiny@1":
            return Served(411.0, 398.0, 420.0, {"chats": 12.6, "wiki": 30.2})
        raise EngineFailed(f"the engine does not serve {ref}: no kernel")

    other = replace(outcome.checkpoint, path=outcome.checkpoint.path.with_name("2"))
    monkeypatch.setattr(compare, "quantize", lambda *ignored, **also: replace(outcome, checkpoint=other))
    monkeypatch.setattr(served, "serve", serve)
    lines = invoke(home, "tiny@1", "--compare", "gptq", "--engine").stdout.splitlines()
    answer = json.loads(invoke(home, "tiny@1", "--compare", "gptq", "--engine", "--json").stdout)

    assert lines[0].split()[:8] == ["MB", "bits", "chats", "÷", "(95%)", "in", "the", "engine"]
    assert lines[1].split()[5:8] == ["12.50", "1", "12.60"]
    assert lines[1].split()[-6:] == ["411", "(398", "to", "420)", "–", "tiny@1"]
    assert lines[2].split()[-3:] == ["–", "61", "tiny@2"]
    assert lines[3] == "the engine does not serve tiny@2: no kernel"
    assert (answer["tokens_per_s"], answer["tokens_per_s_high"]) == (411, 420)
    assert answer["engine_perplexity"] == {"chats": 12.6, "wiki": 30.2}
    assert answer["schemes"][0]["engine_perplexity"] is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "choose --scheme"),
        (["--scheme", "w8a8", "--compare", "w8a8"], "choose --scheme"),
        (["--compare", "w8a8,w2a2"], "'w2a2' is not a scheme"),
        (["--compare", " , "], "no scheme given"),
        (["--scheme", "w8a8", "--no-engine"], "--engine and --plot are for --compare"),
        (["--compare", "w8a8", "--name", "x"], "--name does not go with --compare"),
    ],
)
def test_what_is_compared_must_be_known(home: Path, arguments: list[str], why: str) -> None:
    result = invoke(home, "tiny@1", *arguments)

    assert result.exit_code == 2
    assert why in result.stderr
