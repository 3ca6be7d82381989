"""An encoder run by numpy says what transformers' says, and what is no encoder is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from serving.guard.classifiers.encoder import MAX_TOKENS, Encoder, EncoderError, digest_of
from tests.support.tiny_bert import write_tiny_bert

TEXTS = (
    "The ship is in the harbour.",
    "Ships of old. They leave the harbour at dawn, and nobody knows where to; " * 12,
    "",
    "the the the",
    "\ud83d half a pair",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("encoder"))


def states_of_transformers(folder: Path, text: str) -> list[np.ndarray]:
    """After each layer, from the embeddings on."""
    from transformers import AutoModel, AutoTokenizer

    read = AutoTokenizer.from_pretrained(folder)(
        text.encode("utf-8", "replace").decode(), truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    with torch.no_grad():
        found = AutoModel.from_pretrained(folder).eval()(**read, output_hidden_states=True)
    return [states[0].numpy() for states in found.hidden_states]


@pytest.mark.parametrize("skip", [0, 1])
def test_states_are_those_of_transformers(folder: Path, skip: int) -> None:
    encoder = Encoder(folder, skip)
    together = encoder.read_all(TEXTS)

    for text, found in zip(TEXTS, together, strict=True):
        wanted = states_of_transformers(folder, text)[2 - skip]
        assert np.abs(found.states - wanted).max() < 1e-5
        assert np.abs(encoder.read(text).states - wanted).max() < 1e-5
    assert len(together[1].states) == MAX_TOKENS


def test_places_are_where_tokens_stand(folder: Path) -> None:
    text = "The ship is in the harbour."

    places = Encoder(folder).read(text).offsets

    assert places[0] == places[-1] == (0, 0)
    assert [text[begin:end] for begin, end in places[1:3]] == ["The", "ship"]


def test_half_precision_is_read(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    copied = copy(folder, tmp_path / "half")
    AutoModel.from_pretrained(folder).half().save_pretrained(copied)

    exact, half = (Encoder(place).read("The ship is in the harbour.").states for place in (folder, copied))

    assert 0 < np.abs(exact - half).max() < 0.05


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def cut(name: str, keep: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(config(model_type="gpt2"), "model_type is gpt2, not bert", id="another kind"),
        pytest.param(config(hidden_act="relu"), "hidden_act is relu, not gelu", id="another activation"),
        pytest.param(config(num_hidden_layers=9), "is missing", id="more layers than weights"),
        pytest.param(cut("model.safetensors", 4000), "no encoder of BERT's kind", id="weights cut off"),
        pytest.param(cut("model.safetensors", 0), "no encoder of BERT's kind", id="weights empty"),
        pytest.param(cut("config.json", 10), "no encoder of BERT's kind", id="configuration cut off"),
        pytest.param(cut("tokenizer.json", 10), "tokenizer.json cannot be read", id="tokenizer cut off"),
        pytest.param(lambda folder: (folder / "tokenizer.json").unlink(), "cannot be read", id="no tokenizer"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], why: str
) -> None:
    broken = copy(folder, tmp_path / "broken")
    change(broken)

    with pytest.raises(EncoderError, match=why) as raised:
        Encoder(broken)

    assert str(raised.value).startswith(str(broken))
    assert "\n" not in str(raised.value)


def test_a_tokenizer_with_more_words_than_the_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="more words than the weights"):
        Encoder(write_tiny_bert(tmp_path, vocab_size=12))


def test_the_digest_is_of_all_that_is_read(folder: Path, tmp_path: Path) -> None:
    other = copy(folder, tmp_path / "other")
    assert digest_of(other) == digest_of(folder)

    config(layer_norm_eps=1e-5)(other)

    assert digest_of(other) != digest_of(folder)
    (other / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"model\.safetensors cannot be read"):
        digest_of(other)
