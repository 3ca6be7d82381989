"""Models on files: one small model of each kind, and what the fine-tuned one forgot."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.tiny_bert import write_tiny_bert
from training.errors import DataError
from training.evaluate import resolve_source
from training.evaluate.cli import evaluate
from training.evaluate.matrix import Losses, what_it_holds
from training.outcome import Outcome
from training.registry import ManifestDraft, Registry

Signet = Callable[..., Result]

GENERAL = "Seven lighthouses stand on the coast; an eighth is under repair.\n" * 20


@dataclass
class Settings:
    home: Path


@pytest.fixture
def signet(home: Path) -> Signet:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(evaluate, [str(argument) for argument in arguments], obj=lambda: Settings(home))

    return run


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path, write_chats: Callable[..., Path]) -> dict[str, Path]:
    (tmp_path / "general.txt").write_text(GENERAL)
    letters = [{"text": "ab"[number % 2] * 9 + str(number), "label": "ab"[number % 2]} for number in range(24)]
    others = [{"text": f"text {number}", "label": "other"} for number in range(6)]
    pairs = [{"query": f"the ship {number}", "text": f"ship {number}"} for number in range(6)]
    return {
        "general": tmp_path / "general.txt",
        "letters": lines(tmp_path / "letters.jsonl", letters),
        "others": lines(tmp_path / "others.jsonl", others),
        "pairs": lines(tmp_path / "pairs.jsonl", pairs),
        "chats": write_chats("chats.jsonl", [(f"Open {number}?", "It is open.") for number in range(8)]),
    }


@pytest.fixture
def models(tiny: Registry, train: Callable[..., Outcome], files: dict[str, Path], tmp_path: Path) -> Registry:
    """`letters`, a classifier; `finder`, an embedder; `desk`, fine-tuned on chats from `tiny`."""
    how = "base: tiny\nsteps: 4\nbatch_size: 4\noptimizer: {learning_rate: 0.01}\n"
    path = tmp_path / "recipe.yaml"
    path.write_text(f"method: classify\nname: letters\n{how}data: {{train: letters.jsonl}}\n")
    train(path)
    path.write_text(f"method: sft\nname: desk\n{how}data: {{train: chats.jsonl}}\n")
    train(path)
    tiny.register(write_tiny_bert(tmp_path / "bert"), "finder", ManifestDraft(kind="embedder", license="MIT"))
    return tiny


def test_every_model_on_every_file(signet: Signet, models: Registry, files: dict[str, Path]) -> None:
    data = [f"--data={name}={files[name]}" for name in ("letters", "others", "pairs", "chats")]
    asked = ["tiny", "desk", "letters", "finder", "--matrix", *data, "--general", files["general"]]

    result = signet(*asked, "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    rows = {row["ref"]: row for row in said["models"]}
    assert list(rows) == ["tiny@1", "desk@1", "letters@1", "finder@1"]
    measures = {ref: [cell["measure"] for cell in row["data"].values()] for ref, row in rows.items()}
    assert measures == {
        "tiny@1": ["bits a byte"] * 4,
        "desk@1": ["bits a byte"] * 4,
        "letters@1": ["macro F1", None, None, None],
        "finder@1": [None, None, "recall@1", None],
    }
    assert rows["letters@1"]["data"]["others"]["why"] == "other labels"
    for row in rows.values():
        for cell in row["data"].values():
            assert cell["measure"] is None or cell["value_low"] <= cell["value"] <= cell["value_high"]
    assert rows["desk@1"]["data"]["chats"]["value"] < rows["tiny@1"]["data"]["chats"]["value"]
    assert [rows[ref]["forgot"] for ref in ("tiny@1", "letters@1", "finder@1")] == [None] * 3
    forgot = rows["desk@1"]["forgot"]
    assert forgot["base"] == "tiny@1"
    assert forgot["ratio"] == pytest.approx(forgot["perplexity_after"] / forgot["perplexity_before"])
    assert forgot["bits_per_byte_before"] == pytest.approx(rows["tiny@1"]["general"]["value"])

    table = signet(*asked).stdout.splitlines()
    assert [len(line) for line in table] == [len(table[0])] * 6
    assert table[0].split() == [
        "|",
        "model",
        "|",
        *(word for name in said["data"] for word in (name, "|")),
        *["general", "|", "forgot", "|"],
    ]


def test_a_figure_of_the_matrix_is_that_of_the_model_alone(
    signet: Signet, tiny: Registry, files: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("chats", "general"):
        alone = json.loads(signet("tiny", "--data", files[name], "--json").stdout)

        both = json.loads(signet("tiny", "--matrix", "--data", files[name], "--json").stdout)

        # The matrix leaves out the last block of a text where it is not whole.
        found = both["models"][0]["data"][name]["value"]
        assert found == pytest.approx(alone["bits_per_byte"], rel=1e-5 if name == "chats" else 0.02)


def test_bits_a_byte_and_their_interval() -> None:
    """Two bits a token of two bytes; where all texts are alike the interval is nothing."""
    alike = Losses(nats=[8 * math.log(4)] * 5, tokens=[8] * 5, num_bytes=80).bits_per_byte()

    assert (alike.value, alike.low, alike.high) == pytest.approx((1.0, 1.0, 1.0))
    unlike = Losses(nats=[1.0, 9.0, 4.0], tokens=[2, 3, 4], num_bytes=9).bits_per_byte()
    assert unlike.low < unlike.value < unlike.high


def test_what_files_hold(files: dict[str, Path]) -> None:
    found = {name: what_it_holds(path) for name, path in files.items()}

    assert found == {"general": "text", "letters": "labels", "others": "labels", "pairs": "pairs", "chats": "chats"}


@pytest.mark.parametrize(("content", "said"), [("", "holds no"), ('{"text": "a", "label": 1', "a.jsonl:1")])
def test_files_that_cannot_be_read(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)

    with pytest.raises(DataError, match=said):
        what_it_holds(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny", "tiny", "--data", "{chats}"), "give one model and one --data file"),
        (("tiny", "--data", "{chats}", "--general", "{general}"), "for several, or --general, add --matrix"),
        (("tiny", "--matrix", "--data", "{chats}", "--data", "{chats}"), "another file is called 'chats' already"),
        (("tiny", "--matrix", "--data", "none.jsonl"), "none.jsonl"),
        (("tiny", "--matrix", "--data", "{chats}", "--beside", "tiny"), "--matrix cannot be combined"),
        (("nobody", "--matrix", "--data", "{chats}"), "nobody"),
    ],
)
def test_mistakes_are_one_line(
    signet: Signet, tiny: Registry, files: dict[str, Path], arguments: tuple[str, ...], said: str
) -> None:
    result = signet(*(argument.format(**files) for argument in arguments))

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert said in result.stderr


def test_a_base_that_is_no_longer_there_is_no_failure(
    signet: Signet, models: Registry, files: dict[str, Path], home: Path
) -> None:
    import shutil

    shutil.rmtree(resolve_source("tiny", models, show_progress=False).path)

    said = json.loads(
        signet("desk", "--matrix", "--data", files["chats"], "--general", files["general"], "--json").stdout
    )

    assert said["models"][0]["forgot"] is None
    assert said["models"][0]["general"]["measure"] == "bits a byte"
