from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from training.explain.cli import explain
from training.registry import Registry


class Settings:
    def __init__(self, home: Path) -> None:
        self.home = home


@pytest.fixture
def signet(home: Path, tiny: Registry) -> Any:
    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(explain, list(arguments), obj=lambda: Settings(home), input=stdin)

    return run


def test_tokens_as_json(signet: Any) -> None:
    said = json.loads(signet("tokens", "é<|im_end|>", "--model", "tiny", "--json").stdout)

    assert said["ref"] == "tiny@1"
    assert [token["bytes"] for token in said["tokens"]] == [[0xC3], [0xA9], list(b"<|im_end|>")]
    assert said["tokens"][-1] == {
        "id": 2,
        "token": "<|im_end|>",
        "text": "<|im_end|>",
        "bytes": list(b"<|im_end|>"),
        "special": True,
    }
    assert said["words"] == []


def test_tokens_as_a_table(signet: Any, tiny_model_folder: Path) -> None:
    said = signet("tokens", "a b", "--model", str(tiny_model_folder)).stdout

    assert said.startswith(f"{tiny_model_folder}: 3 tokens, 3 bytes\n")
    assert "Ġ" in said


def test_standard_input_is_read(signet: Any) -> None:
    said = json.loads(signet("tokens", "-", "--model", "tiny", "--json", stdin=b"a\xff").stdout)

    assert said["text"] == "a\ufffd"


def test_a_model_that_is_not_there_is_one_line(signet: Any) -> None:
    result = signet("tokens", "a", "--model", "nobody")

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_attention_is_drawn_and_said(signet: Any, tmp_path: Path) -> None:
    out = tmp_path / "heads.svg"

    result = signet("attention", "a b", "--model", "tiny", "--out", str(out))

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: 8 heads of tiny@1 over 3 tokens\n")
    assert "looks most at the token before: layer" in result.stdout
    assert out.read_text().startswith("<svg")


def test_attention_of_one_head_as_json(signet: Any, tmp_path: Path) -> None:
    arguments = ("--layer", "1", "--head", "0", "--out", str(tmp_path / "a.svg"), "--json")

    said = json.loads(signet("attention", "-", "--model", "tiny", *arguments, stdin=b"a b").stdout)

    assert said["tokens"] == ["a", "·", "b"]
    assert [(head["layer"], head["head"]) for head in said["heads"]] == [(1, 0)]
    assert [len(row) for row in said["weights"]] == [3, 3, 3]


def test_attention_into_a_folder_that_is_not_there(signet: Any, tmp_path: Path) -> None:
    result = signet("attention", "a", "--model", "tiny", "--out", str(tmp_path / "none" / "a.svg"))

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "there is no folder" in result.stderr
