from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_bert import write_tiny_bert
from training.data.pairs import QueryPair
from training.errors import DataError, RecipeError
from training.evaluate import resolve_source
from training.evaluate.loading import load_tokenizer
from training.evaluate.measurement import measure_embedder
from training.evaluate.retrieval import load_embedder, mean_pooled
from training.methods.embed import ContrastObjective, contrastive_loss
from training.outcome import Outcome
from training.registry import ManifestDraft, Registry

Train = Callable[..., Outcome]
REPOSITORY = Path(__file__).parents[3]
RECIPE = """\
method: embed
name: finder
base: small
data: {train: pairs.jsonl, heldout: heldout.jsonl, max_tokens: 32}
steps: 40
batch_size: 8
micro_batch_size: 3
optimizer: {learning_rate: 5.0e-3}
seed: 1
"""


@pytest.fixture
def recipe(tmp_path: Path, store: Registry) -> Path:
    """A text answers a query of the letter before its own; `small` is a random BERT."""
    store.register(write_tiny_bert(tmp_path / "bert"), "small", ManifestDraft(kind="embedder", license="MIT"))
    letters = "abcdefghij"
    for name, repeat in (("pairs", (2, 3, 4)), ("heldout", (5,))):
        rows = [
            {"query": f"the{f' {letter}' * number}", "text": f"harbour {after} ship"}
            for number in repeat
            for letter, after in zip(letters, letters[1:] + "a", strict=True)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("settings", [(), ("adapter=lora", "optimizer.learning_rate=2e-2")])
def test_learns_registers_and_is_measured_again_as_its_manifest_says(
    train: Train, recipe: Path, store: Registry, settings: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = train(recipe, *settings)

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    assert (manifest.kind, manifest.license) == ("embedder", "MIT")
    assert manifest.evaluation["recall_at_1"] > manifest.evaluation["recall_at_1_before"] + 0.2
    assert manifest.evaluation["last_loss"] < manifest.evaluation["first_loss"]
    source = resolve_source("finder", store, show_progress=False)
    again = measure_embedder(source, tmp_path / "heldout.jsonl", 512, show_progress=False)
    assert again.measured.figures().items() <= manifest.evaluation.items()


def test_the_files_say_how_vectors_are_made(train: Train, recipe: Path, store: Registry) -> None:
    outcome = train(recipe, "steps=1")

    assert outcome.checkpoint is not None
    folder = outcome.checkpoint.path
    modules = json.loads((folder / "modules.json").read_bytes())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_bytes())
    assert (pooling["word_embedding_dimension"], pooling["pooling_mode_mean_tokens"]) == (32, True)
    assert json.loads((folder / "sentence_bert_config.json").read_bytes())["max_seq_length"] == 32
    config = json.loads((folder / "config.json").read_bytes())
    assert (config["architectures"], config["hidden_dropout_prob"]) == (["BertModel"], 0.1)
    store.verify(outcome.checkpoint)


def test_micro_batches_have_the_gradient_of_the_whole_batch(recipe: Path, store: Registry) -> None:
    source = resolve_source("small", store, False)
    tokenizer = load_tokenizer(source.path)
    texts = [("the a", "aa ship"), ("the bbb", "harbour b b"), ("the c", "c"), ("dd", "aa ship"), ("the e", "e e e e")]
    pairs = [QueryPair(query, text, query, "") for query, text in texts]
    objective = ContrastObjective(pairs, tokenizer, 32, 0.1, torch.device("cpu"))

    model = load_embedder(source)
    vectors = [
        mean_pooled(model, [tokenizer(pair[side])["input_ids"] for pair in texts], tokenizer, "cpu") for side in (0, 1)
    ]
    is_other = torch.ones(5, 5, dtype=torch.bool)
    is_other[0, 3] = is_other[3, 0] = False  # the same text is no wrong answer
    expected = contrastive_loss(vectors[0], vectors[1], is_other, 0.1).sum()
    expected.backward()
    whole = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    for size in (1, 2, 5):
        again = load_embedder(source)
        order = [4, 0, 3, 1, 2]
        objective.prepare(again, order, size)
        losses = [objective.loss(again, order[start : start + size]) for start in range(0, 5, size)]
        for loss in losses:
            loss.backward()
        assert sum(loss.item() for loss in losses) == pytest.approx(expected.item(), abs=1e-5)
        parts = [parameter.grad for parameter in again.parameters() if parameter.grad is not None]
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, parts, strict=True))


def test_a_run_in_micro_batches_has_the_same_losses(train: Train, recipe: Path) -> None:
    found: list[Any] = [train(recipe, "steps=4", f"micro_batch_size={size}").report["losses"] for size in (8, 1)]

    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_a_decoder_may_be_the_base(train: Train, recipe: Path, tiny: Registry) -> None:
    outcome = train(recipe, "base=tiny", "steps=1")

    assert outcome.checkpoint is not None
    config = json.loads((outcome.checkpoint.path / "config.json").read_bytes())
    assert (config["architectures"], config["dtype"]) == (["LlamaModel"], "bfloat16")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"query": "a"}', "text is missing or empty"),
        ('{"query": " ", "text": "b"}', "query is missing or empty"),
        ('["a", "b"]', "is not a JSON object"),
        ('{"query": "The  A a", "text": "b"}', "is held out, and .*pairs.jsonl:1 trains on the same query or group"),
    ],
)
def test_bad_lines_are_named(train: Train, recipe: Path, line: str, why: str) -> None:
    with (recipe.parent / "heldout.jsonl").open("a") as file:
        file.write(line + "\n")

    with pytest.raises(DataError, match=rf"heldout\.jsonl:11: {why}"):
        train(recipe)


def test_dropout_of_an_adapter_is_refused(train: Train, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"adapter\.dropout must be 0"):
        train(recipe, "adapter.dropout=0.1")


def test_the_shipped_recipe_runs(train: Train, recipe: Path) -> None:
    shipped = REPOSITORY / "recipes" / "embed.yaml"

    outcome = train(shipped, "base=small", "epochs=null", "steps=1", f"data.train={recipe.parent / 'pairs.jsonl'}")

    assert outcome.checkpoint is not None
