from __future__ import annotations

import shutil
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from base64 import b64decode
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.tiny_bert import write_tiny_bert
from training.errors import SourceError, TrainingError
from training.evaluate import Source
from training.evaluate.loading import load_model
from training.evaluate.tokens import open_tokenizer
from training.explain.attention import MOST_TOKENS, Attention, choose, read_attention
from training.explain.attention_map import attention_map
from training.lexical.bert import with_lexical_part
from training.methods import adapters
from training.recipes.sections import BottleneckSettings, LoraSettings, PrefixSettings
from training.registry import CheckpointRef

SVG = "{http://www.w3.org/2000/svg}"


def source(folder: Path, base: Source | None = None) -> Source:
    return Source(folder, CheckpointRef(ref=folder.name, digest="sha256:" + "0" * 64), base=base)


def drawn(attention: Attention, chosen: list[tuple[int, int]]) -> ElementTree.Element:
    return ElementTree.fromstring(attention_map("tiny", attention, chosen))


def test_a_decoder_looks_at_what_came_before(tiny_model_folder: Path) -> None:
    found = read_attention(source(tiny_model_folder), "a b")

    assert found.weights_ANLM.shape == (2, 4, 3, 3)
    assert found.tokens == ["a", "·", "b"]
    assert torch.allclose(found.weights_ANLM.sum(-1), torch.ones(2, 4, 3))
    assert found.weights_ANLM.triu(1).abs().max() == 0


def test_weights_are_those_of_the_formula(tiny_model_folder: Path) -> None:
    """Of the first layer's first head, calculated here from the model's own projections."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    found = read_attention(source(tiny_model_folder), "abc")
    model = load_model(source(tiny_model_folder))
    ids = torch.tensor([open_tokenizer(tiny_model_folder).encode("abc").ids])
    layer = model.model.layers[0]
    with torch.no_grad():
        x = layer.input_layernorm(model.model.embed_tokens(ids))
        q, k = (proj(x).view(1, 3, -1, 8).transpose(1, 2) for proj in (layer.self_attn.q_proj, layer.self_attn.k_proj))
        q, k = apply_rotary_pos_emb(q, k, *model.model.rotary_emb(x, torch.arange(3)[None]))
        scores = (q[0, 0] @ k[0, 0].T) / 8**0.5
    expected = scores.masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf).softmax(-1)

    assert torch.allclose(found.weights_ANLM[0, 0], expected, atol=1e-5)


def test_an_encoder_looks_both_ways(tmp_path: Path) -> None:
    found = read_attention(source(write_tiny_bert(tmp_path / "bert")), "the ship")

    assert found.tokens == ["[CLS]", "the", "ship", "[SEP]"]
    assert found.weights_ANLM.triu(1).abs().max() > 0


def test_a_classifier_that_reads_tokens_too_looks_as_its_encoder_does(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "bert")
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    vocabulary = plain.config.vocab_size
    shutil.copytree(folder, tmp_path / "lexical")
    with_lexical_part(plain, torch.ones(vocabulary), torch.ones(vocabulary, 2)).save_pretrained(tmp_path / "lexical")

    found = read_attention(source(tmp_path / "lexical"), "the ship")

    assert torch.equal(found.weights_ANLM, read_attention(source(folder), "the ship").weights_ANLM)


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        (LoraSettings(), 0),
        (PrefixSettings(kind="prefix", tokens=3), 3),
        (BottleneckSettings(kind="bottleneck", width=4), 0),
    ],
)
def test_adapters_are_looked_at_on_their_base(
    tiny_model_folder: Path, tmp_path: Path, settings: adapters.AnyAdapter, prefix: int
) -> None:
    base = source(tiny_model_folder)
    model = adapters.attach(load_model(base), settings)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_A" not in name:
            parameter.data = torch.randn_like(parameter)
    folder = tmp_path / "adapter"
    adapters.save_adapter(model, base, folder)

    found = read_attention(source(folder, base), "abc")

    assert found.weights_ANLM.shape == (2, 4, 3, 3 + prefix)
    assert found.looked_at == [*(f"prefix {number + 1}" for number in range(prefix)), "a", "b", "c"]
    bare = read_attention(base, "abc").weights_ANLM
    assert not torch.allclose(found.weights_ANLM[..., prefix:], bare, atol=1e-3)
    drawn(found, choose(found, None, None))


def test_habits() -> None:
    before = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    even = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])

    first, second = Attention(torch.stack((before, even))[None], ["a", "b", "c"]).head_statistics()

    assert (first.layer, first.head, first.first, first.before, first.itself) == (0, 0, 0.5, 1.0, 0.0)
    assert first.entropy == pytest.approx(0)
    assert second.entropy == pytest.approx(1)
    assert second.itself == pytest.approx((0.5 + 1 / 3) / 2)


def test_labels_show_spaces_and_no_control_characters(tiny_model_folder: Path) -> None:
    found = read_attention(source(tiny_model_folder), "a \n\x1bé<|im_end|>")

    assert found.tokens == ["a", "·", "⏎", "\\x1b", "é", "©", "<|im_end|>"]


def test_one_head_is_drawn_with_its_weights(tiny_model_folder: Path) -> None:
    found = read_attention(source(tiny_model_folder), "a<&b")

    picture = drawn(found, choose(found, 1, 2))

    titles = [title.text for title in picture.iter(f"{SVG}title")]
    assert f"b looks at <: {found.weights_ANLM[1, 2, 3, 1]:.3f}" in titles
    labels = [label.text for label in picture.iter(f"{SVG}text")]
    assert labels[0] == "tiny: layer 1, head 2"
    assert labels.count("&") == 2


def test_heads_of_a_layer_are_pictures_of_their_weights(tiny_model_folder: Path) -> None:
    found = read_attention(source(tiny_model_folder), "abc")

    images = list(drawn(found, choose(found, 0, None)).iter(f"{SVG}image"))

    assert len(images) == 4
    opacity = alpha_of(b64decode(images[3].attrib["href"].partition(",")[2]))
    assert torch.allclose(opacity, found.weights_ANLM[0, 3], atol=1 / 255)


def alpha_of(png: bytes) -> torch.Tensor:
    width, height = struct.unpack(">II", png[16:24])
    start = png.index(b"IDAT") + 4
    raw = zlib.decompress(png[start : start + struct.unpack(">I", png[start - 8 : start - 4])[0]])
    rows = torch.tensor(list(raw)).view(height, 1 + 4 * width)
    return rows[:, 1:].view(height, width, 4)[..., 3] / 255


def test_many_heads_are_thumbnails() -> None:
    weights = torch.eye(5).expand(6, 4, 5, 5)
    found = Attention(weights, ["one", "two", "three", "four", "a-very-long-token"])

    picture = drawn(found, choose(found, None, None))

    assert len(list(picture.iter(f"{SVG}image"))) == 24
    labels = [label.text or "" for label in picture.iter(f"{SVG}text")]
    assert {"layer 5", "head 3"} <= set(labels)
    assert "one two three four a-very-long-t…" in labels[1]


@pytest.mark.parametrize("count", [1, MOST_TOKENS])
def test_shortest_and_longest(tiny_model_folder: Path, count: int) -> None:
    found = read_attention(source(tiny_model_folder), "a" * count)

    assert all(0 <= head.entropy <= 1 for head in found.head_statistics())
    for layer, head in ((None, None), (0, 0)):
        drawn(found, choose(found, layer, head))


@pytest.mark.parametrize(("text", "said"), [("", "no tokens"), ("a" * (MOST_TOKENS + 1), "has 129 tokens")])
def test_texts_that_cannot_be_drawn(tiny_model_folder: Path, text: str, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        read_attention(source(tiny_model_folder), text)


def test_a_head_that_is_not_there(tiny_model_folder: Path) -> None:
    found = read_attention(source(tiny_model_folder), "a")

    with pytest.raises(TrainingError, match="--head 4: the model has 4, numbered from 0"):
        choose(found, 0, 4)


def test_a_tokenizer_alone_is_one_line(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny_model_folder / "tokenizer.json").read_bytes())

    with pytest.raises(SourceError, match="cannot be loaded"):
        read_attention(source(tmp_path), "a")
