from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.data import Example
from training.errors import DataError
from training.evaluate import resolve_source
from training.evaluate.loading import load_model
from training.evaluate.perplexity import collate, log_likelihoods, summed_loss
from training.methods.dpo import preference_loss, reward_margins
from training.outcome import Outcome
from training.registry import Registry

Train = Callable[..., Outcome]
REPOSITORY = Path(__file__).parents[3]
RECIPE = """\
method: dpo
name: polite
base: tiny
data: {train: pairs.jsonl, heldout: heldout.jsonl, max_tokens: 96}
steps: 12
batch_size: 4
micro_batch_size: 2
adapter: lora
optimizer: {learning_rate: 1.0e-2}
seed: 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name, start, count in (("pairs", 0, 24), ("heldout", 100, 10)):
        rows = [
            {"prompt": f"Is {number} open?", "chosen": f"Yes, {number}, please.", "rejected": f"no {number} go"}
            for number in range(start, start + count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_the_loss_of_a_case_made_by_hand() -> None:
    """As trl's `sigmoid` loss: -log sigmoid(beta * ((chosen - rejected) - (ref chosen - ref rejected)))."""
    policy = torch.tensor([[-10.0, -12.0], [-5.0, -4.0]])
    reference = torch.tensor([[-11.0, -11.0], [-5.0, -4.0]])

    losses = preference_loss(policy, reference, beta=0.5)

    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-0.5 * (2 - 0))), math.log(2)])
    assert reward_margins(policy, reference, 0.5).tolist() == pytest.approx([1.0, 0.0])


def test_log_likelihoods_are_the_loss_by_example(tiny: Registry) -> None:
    model = load_model(resolve_source("tiny", tiny, False), torch.float32)
    examples = [Example([1, 50, 60, 70], [-100, -100, 60, 70], ""), Example([1, 50], [-100, 50], "")]

    together = log_likelihoods(model, collate(examples, 0))

    alone = [-summed_loss(model, collate([example], 0)) for example in examples]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


@pytest.mark.parametrize("settings", [(), ("output=adapter",), ("adapter=null", "optimizer.learning_rate=1e-3")])
def test_learns_what_is_preferred(train: Train, recipe: Path, tiny: Registry, settings: tuple[str, ...]) -> None:
    outcome = train(recipe, *settings)

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    assert manifest.kind == ("adapter" if "output=adapter" in settings else "merged")
    assert outcome.report["losses"][0] == pytest.approx(math.log(2), abs=1e-4)  # type: ignore[index,call-overload]
    assert manifest.evaluation["last_loss"] < 0.6
    assert manifest.evaluation["reward_accuracy"] >= 0.9
    assert manifest.evaluation["reward_margin_low"] > 0
    assert [(digest.rows, digest.role) for digest in manifest.data] == [(24, "train"), (10, "heldout")]


def test_micro_batches_change_nothing(train: Train, recipe: Path, tiny: Registry) -> None:
    found: list[Any] = [train(recipe, "steps=3", f"micro_batch_size={size}").report["losses"] for size in (1, 4)]

    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_a_prompt_on_both_sides_is_refused(train: Train, recipe: Path, tiny: Registry) -> None:
    with (recipe.parent / "heldout.jsonl").open("a") as file:
        file.write('{"prompt": "Is 3 open?", "chosen": "Sure.", "rejected": "Never."}\n')

    with pytest.raises(
        DataError, match=r"heldout\.jsonl:11: is held out, and .*pairs\.jsonl:4 trains on the same prompt"
    ):
        train(recipe)


def test_without_held_out_pairs_a_part_is_held_out(train: Train, recipe: Path, tiny: Registry) -> None:
    outcome = train(recipe, "data.heldout=null", "data.heldout_fraction=0.3", "steps=1")

    assert outcome.checkpoint is not None
    learned, held = outcome.checkpoint.manifest.data
    assert (learned.rows + held.rows, held.rows > 2) == (24, True)


def test_the_shipped_recipe_runs(train: Train, recipe: Path, tiny: Registry) -> None:
    shipped = REPOSITORY / "recipes" / "dpo.yaml"

    outcome = train(shipped, "base=tiny", "epochs=null", "steps=1", f"data.train={recipe.parent / 'pairs.jsonl'}")

    assert outcome.checkpoint is not None
