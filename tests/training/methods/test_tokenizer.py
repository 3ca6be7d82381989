from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.errors import DataError, RecipeError, SourceError
from training.outcome import Outcome
from training.recipes import load_recipe
from training.registry import Registry

Train = Callable[..., Outcome]

CONTRACT = "The indemnitor shall indemnify the indemnitee.\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text(CONTRACT * 20 + "Vis-à-vis § 5(a), the lessee pays.\n" * 20)
    (tmp_path / "heldout.txt").write_text("The indemnitee pays the indemnitor.\n")
    path = tmp_path / "recipe.yaml"
    path.write_text("method: tokenizer\nname: legal\nvocab_size: 320\ndata: {train: train.txt, heldout: heldout.txt}\n")
    return path


@pytest.fixture
def extension(tmp_path: Path, recipe: Path) -> Path:
    path = tmp_path / "extension.yaml"
    path.write_text(
        "method: tokenizer\nname: larger\nextend: {base: tiny, tokens: 20}\n"
        "data: {train: train.txt, heldout: heldout.txt}\n"
    )
    return path


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_a_tokenizer_is_a_checkpoint(recipe: Path, train: Train, store: Registry, kind: str) -> None:
    outcome = train(recipe, f"kind={kind}")

    checkpoint = store.resolve("legal@1")
    store.verify(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    heldout = (recipe.parent / "heldout.txt").read_bytes()
    count = len(tokenizer(heldout.decode(), add_special_tokens=False)["input_ids"])
    assert checkpoint.manifest.kind == "tokenizer"
    assert checkpoint.manifest.evaluation["bytes_per_token"] == pytest.approx(len(heldout) / count)
    assert checkpoint.manifest.evaluation["vocab_size"] == len(tokenizer) <= 320
    assert checkpoint.manifest.tokenizer_digest is not None
    assert [digest.role for digest in checkpoint.manifest.data] == ["train", "heldout"]
    assert outcome.report["bytes_per_token"] == checkpoint.manifest.evaluation["bytes_per_token"]


def test_with_a_chat_template_it_writes_chats(recipe: Path, train: Train, store: Registry) -> None:
    train(recipe, "chat_template=chatml")

    checkpoint = store.resolve("legal@1")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "§?"}], return_dict=False)
    assert checkpoint.manifest.control_tokens == ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 1


def test_the_end_of_the_text_is_held_out(recipe: Path, train: Train, store: Registry) -> None:
    (recipe.parent / "train.txt").write_text(CONTRACT * 10 + "x" * 47)

    train(recipe, "data.heldout=null", "data.heldout_fraction=0.0909")

    assert store.resolve("legal@1").manifest.evaluation["bytes_per_token"] == 1.0


def test_held_out_text_that_is_learned_from_is_refused(recipe: Path, train: Train, store: Registry) -> None:
    (recipe.parent / "heldout.txt").write_bytes((recipe.parent / "train.txt").read_bytes())

    with pytest.raises(DataError, match="also trained on"):
        train(recipe)
    assert not store.has("legal")


def test_more_tokens_leave_the_logits_of_other_texts_alone(
    extension: Path, train: Train, tiny: Registry, tiny_model_folder: Path
) -> None:
    outcome = train(extension)

    checkpoint = tiny.resolve("larger@1")
    base = tiny.resolve("tiny@1")
    # In fp32: in bf16 a product with more columns may be summed in another order, and differ by a hundredth.
    old, new = (AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32) for model in (base, checkpoint))
    tokenizers = [AutoTokenizer.from_pretrained(model.path) for model in (base, checkpoint)]
    ids = [tokenizer("Jazz 17, quick\n<|im_end|>")["input_ids"] for tokenizer in tokenizers]
    assert ids[0] == ids[1]
    with torch.no_grad():
        before, after = (model(torch.tensor([ids[0]])).logits for model in (old, new))
    assert torch.allclose(before, after[..., : before.shape[-1]], atol=1e-4)
    assert after.shape[-1] == before.shape[-1] + 20 == len(tokenizers[1])
    assert checkpoint.manifest.kind == "merged"
    assert checkpoint.manifest.parents == [base.manifest.as_ref()]
    assert checkpoint.manifest.license == "Apache-2.0"
    evaluation = checkpoint.manifest.evaluation
    assert evaluation["bytes_per_token"] > evaluation["bytes_per_token_before"] == 1.0
    assert outcome.report["new_tokens"] == 20


def test_rows_of_new_tokens_are_the_mean_of_their_pieces(extension: Path, train: Train, tiny: Registry) -> None:
    (extension.parent / "words.txt").write_text(" lessee\r\n\r\n§ 5\n")

    train(extension, "extend.tokens=words.txt", "data=null")

    checkpoint = tiny.resolve("larger@1")
    old, new = (AutoTokenizer.from_pretrained(model.path) for model in (tiny.resolve("tiny@1"), checkpoint))
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path)
    for word in (" lessee", "§ 5"):
        (index,) = new(word)["input_ids"]
        pieces = old(word)["input_ids"]
        for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            mean = table[pieces].float().mean(0).to(torch.bfloat16)
            assert torch.equal(table[index].to(torch.bfloat16), mean)
    assert json.loads((checkpoint.path / "config.json").read_text())["vocab_size"] == len(new) == len(old) + 2


def test_a_tokenizer_takes_no_rows(recipe: Path, extension: Path, train: Train, tiny: Registry) -> None:
    train(recipe)

    with pytest.raises(SourceError, match="legal@1 is tokenizer: only a whole model"):
        train(extension, "extend.base=legal")


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["vocab_size=100"], "vocab_size 100 is less than 257"),
        (["kind=wordpiece", "special_tokens=[]"], "wordpiece needs"),
        (["data=null"], "setting 'data' is missing"),
        (["data.heldout=train.txt"], "must not be learned from"),
        (["extend.base=tiny", "extend.tokens=5"], "leave out vocab_size"),
    ],
)
def test_recipes_that_cannot_be(recipe: Path, overrides: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        load_recipe(recipe, overrides)


@pytest.mark.parametrize("tokens", ["0", "[]"])
def test_nothing_to_extend_by(extension: Path, tokens: str) -> None:
    with pytest.raises(RecipeError, match="name at least one token"):
        load_recipe(extension, [f"extend.tokens={tokens}"])
    with pytest.raises(RecipeError, match="must say what text to learn"):
        load_recipe(extension, ["data=null"])
