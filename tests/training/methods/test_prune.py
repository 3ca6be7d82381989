from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from training.errors import RecipeError
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
    assert (manifest.kind, [each.ref for each in manifest.parents]) == ("pruned", ["tiny@1"])
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
        (["steps=1", "epochs=1"], "steps or epochs"),
    ],
)
def test_what_cannot_be_is_said(run: Run, changes: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        run(*changes)


def test_the_shipped_recipe_runs(run: Run, train: Run, tiny: Registry) -> None:
    shipped = Path(__file__).parents[3] / "recipes" / "prune.yaml"

    outcome = train(shipped, "base=tiny", "prune.layers=1", "steps=1", "samples=2", "data.max_tokens=512")

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.ref == "smollm2-pruned@1"
