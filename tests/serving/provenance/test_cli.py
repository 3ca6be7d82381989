"""`signet marks` and `signet detect`, as a user types them."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from serving.provenance import Keyring, keyring_file
from serving.provenance.cli import detect, marks
from serving.provenance.mark_key import SECRET_BYTES
from serving.provenance.schemes.gumbel import uniforms


@dataclass
class Settings:
    home: Path

    @property
    def engine_key(self) -> str | None:
        return None

    @property
    def keyring_file(self) -> Path:
        return self.home / "keyring.json"


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    """One whose secret is known: what a key finds in a short text is then the same in every run."""
    keyring_file.create(tmp_path / "keyring.json")
    with keyring_file.changing(tmp_path / "keyring.json") as document:
        document["epochs"][0]["secret"] = base64.b64encode(bytes(range(SECRET_BYTES))).decode()
    return Keyring.open(tmp_path / "keyring.json")


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


@contextmanager
def engine_that_is_sure(logprob: float = -0.01) -> Iterator[str]:
    """Answers as vLLM does, of a model that finds every token of a text equally likely, and twenty others less."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"data": [{"id": "words"}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/tokenize":
                self._answer({"tokens": [7] * len(asked["messages"][0]["content"].split())})
                return
            if asked["prompt"][0] == 7:  # a question went before, and settles it
                entries = [{str(token): {"logprob": -0.001}} for token in asked["prompt"]]
                self._answer({"choices": [{"prompt_logprobs": [None, *entries[1:]]}]})
                return
            others = {str(1000 + n): {"logprob": -5.0} for n in range(asked["prompt_logprobs"])}
            entries = [others | {str(token): {"logprob": logprob}} for token in asked["prompt"]]
            self._answer({"choices": [{"prompt_logprobs": [None, *entries[1:]]}]})

        def log_message(self, *_: object) -> None:
            return

        def _answer(self, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def marked_text(seed: int, length: int, vocabulary: int = 50) -> str:
    answer: list[int] = []
    for _ in range(length):
        context = np.tile(np.array(([-1] * 4 + answer)[-4:]), (vocabulary, 1))
        answer.append(int(uniforms([seed], context, np.arange(vocabulary))[0].argmax()))
    return " ".join(f"w{token}" for token in answer)


def test_list_shows_ids_and_tenants_but_no_seed(ring: Keyring, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme")

    plain, as_json = signet("marks", "list"), signet("marks", "list", "--json")

    assert plain.output == f"{key.id}  acme\n"
    (shown,) = json.loads(as_json.output)
    assert shown == {"key_id": key.id, "tenant": "acme", "model": None, "epoch": 1, "revoked_at": None}
    assert str(key.seed) not in as_json.output


def test_list_shows_models_and_what_is_revoked(ring: Keyring, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme", "small")
    ring.revoke(key.id)

    (line,) = signet("marks", "list").output.splitlines()

    assert line.startswith(f"{key.id}  acme  small  revoked 2")


def test_rotate_begins_an_epoch(ring: Keyring, signet: Callable[..., Result]) -> None:
    before = ring.mark_key("acme")

    result = signet("marks", "rotate")

    assert result.output.startswith("Epoch 2 has begun. Back up")
    assert json.loads(signet("marks", "rotate", "--json").output)["epoch"] == 3
    assert Keyring.open(ring.path).mark_key("acme").epoch == 3
    assert Keyring.open(ring.path).by_id(before.id) == before


def test_revoke_is_final_and_known_by_detect(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme")
    text = marked_text(key.seed, 60).encode()

    assert signet("marks", "revoke", key.id).output == f"{key.id} of acme is revoked.\n"

    assert Keyring.open(ring.path).mark_key("acme").id != key.id
    found = signet("detect", "-", "--model", str(folder), stdin=text)
    assert found.output.startswith(f"Marked by acme ({key.id}), with a revoked key, p = ")


def test_revoking_what_nobody_issued_is_one_line(ring: Keyring, signet: Callable[..., Result]) -> None:
    result = signet("marks", "revoke", "mk1-" + "0" * 20)

    assert result.exit_code == 1
    assert result.output.startswith("Error: no key")


def test_calibration_is_kept_and_used(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    """Letters that all contain a phrase which this key likes."""
    key = ring.mark_key("acme")
    phrase = marked_text(key.seed, 15)
    rng = np.random.default_rng(0)
    letters = folder.parent / "letters.txt"
    letters.write_text(" ".join(" ".join(f"w{n}" for n in rng.integers(0, 50, 85)) + " " + phrase for _ in range(80)))
    one = folder.parent / "one.txt"
    one.write_text(" ".join(f"w{n}" for n in rng.integers(0, 50, 85)) + " " + phrase)
    before = json.loads(signet("detect", str(one), "--model", str(folder), "--json").output)

    result = signet("marks", "calibrate", str(letters), "--model", str(folder), "--window", "100")

    assert result.exit_code == 0, result.output
    assert "1 keys calibrated on 80 windows of 100 tokens." in result.output
    after = json.loads(signet("detect", str(one), "--model", str(folder), "--json").output)
    assert (before["calibrated"], after["calibrated"]) == (False, True)
    assert before["p_value"] < 0.5 * after["p_value"]


def test_too_little_text_to_calibrate_is_one_line(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    ring.mark_key("acme")

    result = signet("marks", "calibrate", "-", "--model", str(folder), stdin=b"w1 w2 w3")

    assert result.exit_code == 1
    assert "too few to calibrate" in result.output


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

    assert result.keys() >= {"marked", "p_value", "tokens_scored", "key_id", "tenant"}
    assert result["verdict"] == "cannot_tell"
    assert result["power"] < 0.01
    assert result["marked"] is False
    assert result["tokens_scored"] == 4


def test_detect_reads_standard_input(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    result = signet("detect", "-", "--model", str(folder), stdin=b"w1 w2 w3")

    assert result.output == (
        "Cannot tell: p = 1 over 3 tokens and 0 keys. Even a marked one would be found with 0% only.\n"
    )


def test_several_files_give_a_list(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme")
    files = [folder.parent / name for name in ("plain.txt", "marked.txt")]
    files[0].write_text(" ".join(f"w{n % 50}" for n in range(0, 700, 7)))
    files[1].write_text(marked_text(key.seed, 60))

    results = json.loads(signet("detect", *map(str, files), "--model", str(folder), "--json").stdout)

    assert [(result["file"], result["marked"]) for result in results] == [(str(files[0]), False), (str(files[1]), True)]
    assert results[1]["key_id"] == key.id


def test_a_marked_part_is_shown(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    key = ring.mark_key("acme")
    rng = np.random.default_rng(5)
    around = [" ".join(f"w{n}" for n in rng.integers(0, 50, 300)) for _ in range(2)]
    text = f"{around[0]} {marked_text(key.seed, 60)} {around[1]}"

    lines = signet("detect", "-", "--model", str(folder), stdin=text.encode()).output.splitlines()

    assert lines[0].startswith(f"Marked by acme ({key.id}), p = ")
    start, end = (int(number) for number in re.findall(r"\b\d+\b", lines[1])[:2])
    assert abs(start - len(around[0])) < 60
    assert abs(end - (len(text) - len(around[1]))) < 60


def test_log_probabilities_come_from_an_engine(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    ring.mark_key("acme")
    text = b"w1 w2 w3"
    with engine_that_is_sure() as url:
        found = json.loads(
            signet("detect", "-", "--model", str(folder), "--engine-url", url, "--json", stdin=text).output
        )

    assert found["weighted"] is True
    assert found["verdict"] == "cannot_tell"


def test_what_a_text_could_show_is_told_for_its_temperature(
    ring: Keyring, folder: Path, signet: Callable[..., Result]
) -> None:
    ring.mark_key("acme")
    text = " ".join(f"w{n}" for n in range(50)).encode()
    arguments = ("detect", "-", "--model", str(folder), "--scheme", "gumbel", "--engine-url")
    with engine_that_is_sure(-0.7) as url:
        warm = signet(*arguments, url, stdin=text)
        cold = signet(*arguments, url, "--temperature", "0.2", stdin=text)

    assert "marked one at temperature 1 would be found" in warm.output
    assert cold.output.startswith("Cannot tell: ")
    assert "Even a marked one at temperature 0.2 would be found with 0% only." in cold.output


def test_what_the_question_settles_carries_no_mark(ring: Keyring, folder: Path, signet: Callable[..., Result]) -> None:
    ring.mark_key("acme")
    question = folder / "question.txt"
    question.write_text("say just this\n")
    text = " ".join(f"w{n}" for n in range(50)).encode()
    arguments = ("detect", "-", "--model", str(folder), "--scheme", "gumbel", "--json", "--engine-url")
    with engine_that_is_sure(-0.7) as url:
        alone = json.loads(signet(*arguments, url, stdin=text).output)
        asked = json.loads(signet(*arguments, url, "--question", str(question), stdin=text).output)

    assert alone["power"] > 0.2
    assert asked["power"] < 0.01
    assert asked["tokens_scored"] == 50


@pytest.mark.parametrize("option", [("--temperature", "0.7"), ("--top-k", "5"), ("--question", "-")])
def test_a_temperature_or_question_without_an_engine_is_an_error(
    ring: Keyring, signet: Callable[..., Result], option: tuple[str, str]
) -> None:
    result = signet("detect", "-", *option, stdin=b"w1")

    assert result.exit_code == 2
    assert "--engine-url" in result.output


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///etc/passwd"])
def test_an_engine_that_gives_no_log_probabilities_is_one_line(
    ring: Keyring, folder: Path, signet: Callable[..., Result], url: str
) -> None:
    result = signet("detect", "-", "--model", str(folder), "--engine-url", url, stdin=b"w1 w2")

    assert result.exit_code == 1
    assert "gives no log-probabilities" in result.output
    assert result.output.count("\n") == 1


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
