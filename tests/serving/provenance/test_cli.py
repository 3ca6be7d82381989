"""`signet marks` and `signet detect`, as a user types them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from serving.provenance import Keyring
from serving.provenance.cli import detect, marks


@dataclass
class Settings:
    home: Path

    @property
    def keyring_file(self) -> Path:
        return self.home / "keyring.json"


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "keyring.json", create=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(50)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    words.save(str(model / "tokenizer.json"))
    return model


@pytest.fixture
def signet(tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        command = {"marks": marks, "detect": detect}[arguments[0]]
        return CliRunner().invoke(command, arguments[1:], obj=lambda: Settings(tmp_path), input=stdin)

    return run


def test_list_shows_ids_and_tenants_but_no_seed(ring: Keyring, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme")

    plain, as_json = signet("marks", "list"), signet("marks", "list", "--json")

    assert plain.output == f"{key.id}  acme\n"
    assert json.loads(as_json.output) == [{"key_id": key.id, "tenant": "acme"}]


def test_export_prints_the_integer(ring: Keyring, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme")

    assert signet("marks", "export", key.id).output == f"{key.seed}\n"
    assert json.loads(signet("marks", "export", key.id, "--json").output)["seed"] == key.seed


@pytest.mark.parametrize("key_id", ["mk1-" + "0" * 20, "acme"])
def test_export_of_an_unknown_key_is_one_line(ring: Keyring, signet: Callable[..., Result], key_id: str) -> None:
    result = signet("marks", "export", key_id)

    assert result.exit_code == 1
    assert result.output.startswith("Error: no key")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("arguments", [("marks", "list"), ("detect", "-")])
def test_without_a_keyring_it_says_where_one_comes_from(
    signet: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    result = signet(*arguments)

    assert result.exit_code == 1
    assert "signet serve" in result.output


def test_detect_prints_the_contract(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    ring.mark_key("acme")
    file = folder.parent / "text.txt"
    file.write_text("w1 w2 w3 w4")

    result = json.loads(signet("detect", str(file), "--model", str(folder), "--json").output)

    assert result.keys() == {"marked", "p_value", "tokens_scored", "key_id", "tenant"}
    assert result["marked"] is False
    assert result["tokens_scored"] == 4


def test_detect_reads_standard_input(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    result = signet("detect", "-", "--model", str(folder), stdin=b"w1 w2 w3")

    assert result.output == "No mark found: p = 1 over 3 tokens and 0 keys.\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [pytest.param(None, "cannot read", id="missing"), pytest.param(b"\xff\xfe\x00", "not text in UTF-8", id="binary")],
)
def test_a_file_that_cannot_be_read_is_one_line(
    ring: Keyring, folder: Path, signet: Callable[..., Result], content: bytes | None, message: str
) -> None:
    file = folder / "text.txt"
    if content is not None:
        file.write_bytes(content)

    result = signet("detect", str(file), "--model", str(folder))

    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1


def test_an_unknown_model_is_one_line(ring: Keyring, signet: Callable[..., Result]) -> None:
    result = signet("detect", "-", "--model", "nobody", stdin=b"text")

    assert result.exit_code == 1
    assert "nobody" in result.output
    assert result.output.count("\n") == 1
