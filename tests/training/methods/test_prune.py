from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from training.errors import RecipeError, SourceError
from training.evaluate import resolve_source
from training.evaluate.measurement import measure_source
from training.outcome import Outcome
from training.registry import Registry

Run = Callable[..., Outcome]

RECIPE = """\
method: prune
name: pruned
base: tiny
prune: {layers: 1}
data: {train: train.jsonl, heldout: heldout.jsonl, max_tokens: 128}
batch_size: 4
optimizer: {learning_rate: 5.0e-3}
"""


@pytest.fixture
def run(tmp_path: Path, train: Run, tiny: Registry, write_chats: Callable[..., Path]) -> Run:
    """Prune the tiny model with some settings changed."""
    write_chats("train.jsonl", [(f"Question {number}?", "It is open until ten.") for number in range(20)])
    write_chats("heldout.jsonl", [(f"Is shop {number} open?", "It is open until ten.") for number in range(6)])
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return partial(train, tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("parts", "shape"),
    [
        ("{layers: 1}", {"num_hidden_layers": 1, "intermediate_size": 64, "num_attention_heads": 4}),
        ("{layers: 1, layers_by: loss}", {"num_hidden_layers": 1}),
        ("{layers: [0]}", {"num_hidden_layers": 1}),
        ("{hidden: 0.5}", {"num_hidden_layers": 2, "intermediate_size": 32}),
        ("{heads: 1}", {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "hidden_size": 32}),
        ("{layers: 1, hidden: 0.25, heads: 1}", {"num_hidden_layers": 1, "intermediate_size": 48}),
    ],
)
def test_what_is_left_is_a_smaller_model_that_measures_as_its_manifest_says(
    run: Run, tiny: Registry, tmp_path: Path, parts: str, shape: dict[str, int]
) -> None:
    outcome = run(f"prune={parts}")

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    figures = manifest.evaluation
    assert (manifest.kind, [parent.ref for parent in manifest.parents]) == ("pruned", ["tiny@1"])
    assert figures["parameters"] < figures["parameters_before"]
    assert {"perplexity_before", "perplexity_pruned", "perplexity_after"} <= figures.keys()
    config = json.loads((outcome.checkpoint.path / "config.json").read_bytes())
    assert shape.items() <= config.items()
    measured = measure_source(resolve_source("pruned", tiny, False), tmp_path / "heldout.jsonl", 128, False)
    assert measured.perplexity.value == pytest.approx(figures["perplexity_after"], rel=1e-6)


@pytest.mark.parametrize("adapter", ["adapter=null", "adapter=lora"])
def test_recovery_recovers(run: Run, adapter: str) -> None:
    figures = run("steps=20", "alpha=1", adapter).report

    assert figures["perplexity_after"] < figures["perplexity_pruned"] * 0.7


def test_parts_that_say_nothing_go_and_nothing_changes(run: Run, tiny: Registry, tmp_path: Path) -> None:
    """Half of the channels, one group of heads and one layer are made mute: exactly those are found."""
    import torch

    from training.data import Example
    from training.evaluate.loading import load_model
    from training.methods.pruning import prune
    from training.recipes.prune import PruneSettings

    model = load_model(resolve_source("tiny", tiny, False), torch.float32).eval()
    mute, other = model.model.layers
    with torch.no_grad():
        mute.self_attn.o_proj.weight.zero_()
        mute.mlp.down_proj.weight.zero_()
        other.mlp.down_proj.weight[:, ::2] = 0
        other.self_attn.o_proj.weight[:, :16] = 0  # two heads of eight, which share their keys
        ids = torch.randint(3, 250, (2, 12))
        before = model(ids).logits
    examples = [Example(row, row, "") for row in ids.tolist()]

    gone = prune(model, PruneSettings(layers=1, hidden=0.5, heads=1), examples, 0, lambda done, total: None)

    assert gone == [0]
    with torch.no_grad():
        torch.testing.assert_close(model(ids, use_cache=False).logits, before)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["prune={layers: 2}"], "the model has 2, and at least one must remain"),
        (["prune={heads: 2}"], "the model has 2, and at least one must remain"),
        (["prune={layers: 0}"], "say what to remove"),
        (["prune={layers: []}"], "layers"),
        (["prune={layers: [2]}"], "0 to 1"),
        (["prune={layers: [0, 0]}"], "list each layer once"),
        (["prune={layers: [0, 1]}"], "the model has 2, and at least one must remain"),
        (["steps=1", "epochs=1"], "steps or epochs"),
        (["prune={vocabulary: 100}"], "100 is too few: 259 tokens must remain"),
        (["prune={vocabulary: 9999}"], "is no fewer than the 259 tokens"),
        (["prune={layers: 1, vocabulary_text: train.jsonl}"], "say how many to keep"),
        (["prune={vocabulary: 260, vocabulary_text: heldout.jsonl}"], "chosen by what is measured on"),
    ],
)
def test_what_cannot_be_is_said(run: Run, changes: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        run(*changes)


TEXT = (
    "The shop that is open is open until ten. The question is whether the shop is open; until then it is a question. "
)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def words(request: pytest.FixtureRequest, tiny: Registry, tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model with a vocabulary of words, as `words@1`, and its folder. Its control tokens stand last."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.registry import ManifestDraft
    from training.tokenizer.bpe import train_bpe
    from training.tokenizer.saving import library_tokenizer

    folder = tmp_path / "words"
    shutil.copytree(tiny_model_folder, folder)
    tokenizer: Tokenizer = library_tokenizer(train_bpe([TEXT] * 3, 300, []))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "merges.txt").write_text("of the old vocabulary")
    end = tokenizer.token_to_id("<|im_end|>")
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size, config.tie_word_embeddings = end + 6, request.param  # some rows to spare
    config.eos_token_id, config.bos_token_id, config.pad_token_id = end, end - 1, end - 2
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, end - 2], "temperature": 0.7}))
    return tiny.register(folder, "words", ManifestDraft(kind="base", license="Apache-2.0")).path


def test_fewer_tokens_leave_the_rest_of_the_model_as_it_was(
    run: Run, words: Path, tiny: Registry, tmp_path: Path
) -> None:
    """What it predicts of a text whose tokens are all left: the same logits, of those tokens alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outcome = run("base=words", "prune={vocabulary: 280}")

    assert outcome.checkpoint is not None
    folder, figures = outcome.checkpoint.path, outcome.checkpoint.manifest.evaluation
    before, after = AutoTokenizer.from_pretrained(words), AutoTokenizer.from_pretrained(folder)
    assert len(after) == 280 < len(before)
    assert not (folder / "merges.txt").exists()
    kept = [before.convert_tokens_to_ids(token) for token in after.convert_ids_to_tokens(range(280))]
    chat = [{"role": "user", "content": "open?"}, {"role": "assistant", "content": "It is open until ten."}]
    text = before.apply_chat_template(chat, tokenize=False)
    old, new = before(text)["input_ids"], after(text)["input_ids"]
    assert [kept[index] for index in new] == old
    there, here = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (words, folder))
    with torch.no_grad():
        expected = there(torch.tensor([old])).logits[..., kept]
        torch.testing.assert_close(here(torch.tensor([new])).logits, expected)
    assert here.config.tie_word_embeddings is there.config.tie_word_embeddings
    settings = [json.loads((folder / name).read_bytes()) for name in ("config.json", "generation_config.json")]
    end, pad = after.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert (settings[0]["vocab_size"], settings[0]["eos_token_id"], settings[0]["pad_token_id"]) == (280, end, pad)
    assert (after.eos_token_id, after.pad_token_id) == (end, pad)
    assert settings[1] == {"eos_token_id": [end, pad], "temperature": 0.7}
    assert figures["parameters"] < figures["parameters_before"]


def test_perplexities_are_of_the_tokens_that_the_model_had(
    run: Run, words: Path, tiny: Registry, tmp_path: Path
) -> None:
    """With the least vocabulary a text has many more tokens, each easier than a word; in all it is the same text."""
    figures = run("base=words", "prune={vocabulary: 262}", "data={train: train.jsonl, heldout: heldout.jsonl}").report

    whole, own = (
        measure_source(resolve_source(name, tiny, False), tmp_path / "heldout.jsonl", 512, False).perplexity
        for name in ("words", "pruned")
    )
    assert own.tokens > whole.tokens == figures["heldout_tokens"]
    assert figures["perplexity_before"] == pytest.approx(whole.value, rel=1e-6)
    assert math.log(figures["perplexity_after"]) == pytest.approx(
        math.log(own.value) * own.tokens / whole.tokens, rel=1e-6
    )


def test_tokens_are_chosen_by_more_text_which_the_manifest_names(run: Run, words: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "more.txt").write_text("whether whether whether " * 30)

    without = run("base=words", "prune={vocabulary: 275}").checkpoint
    outcome = run("base=words", "prune={vocabulary: 275, vocabulary_text: more.txt, layers: 1}", "steps=2")

    chosen = outcome.checkpoint
    assert without is not None
    assert chosen is not None
    first, second = (AutoTokenizer.from_pretrained(listed.path) for listed in (without, chosen))
    assert len(second(" whether")["input_ids"]) < len(first(" whether")["input_ids"])
    assert [(digest.name, digest.role) for digest in chosen.manifest.data][-1] == ("more.txt", "calibration")
    assert len(outcome.report["losses"]) == 2


def test_a_vocabulary_that_is_not_bytes_stays_whole(run: Run, tiny: Registry, words: Path, tmp_path: Path) -> None:
    from training.registry import ManifestDraft

    folder = tmp_path / "other"
    shutil.copytree(words, folder, ignore=shutil.ignore_patterns("manifest.*"))
    state = json.loads((folder / "tokenizer.json").read_bytes())
    state["model"]["end_of_word_suffix"] = "</w>"
    (folder / "tokenizer.json").write_text(json.dumps(state))
    tiny.register(folder, "other", ManifestDraft(kind="base"))

    with pytest.raises(SourceError, match="is not byte-level BPE"):
        run("base=other", "prune={vocabulary: 280}")


def test_the_shipped_recipe_runs(run: Run, train: Run, tiny: Registry) -> None:
    shipped = Path(__file__).parents[3] / "recipes" / "prune.yaml"

    outcome = train(shipped, "base=tiny", "prune.layers=1", "steps=1", "samples=2", "data.max_tokens=512")

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.ref == "smollm2-pruned@1"


def test_the_shipped_recipe_of_fewer_tokens_runs(train: Run, words: Path) -> None:
    shipped = Path(__file__).parents[3] / "recipes" / "prune-vocabulary.yaml"

    outcome = train(shipped, "base=words", "prune.vocabulary=280", "data.max_tokens=512")

    assert outcome.report["perplexity_pruned"] == outcome.report["perplexity_after"]
