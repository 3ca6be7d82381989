from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import SourceError, TrainingError
from training.evaluate import resolve_source
from training.evaluate.loading import load_model
from training.methods.shrink import low_rank
from training.outcome import Outcome
from training.registry import Registry

Train = Callable[..., Outcome]
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def shrink(train: Train, tmp_path: Path) -> Train:
    path = tmp_path / "shrink.yaml"
    path.write_text("method: shrink\nname: small\n")
    return lambda *settings: train(path, *settings)


def test_what_is_kept_is_nearest_at_its_rank() -> None:
    torch.manual_seed(0)
    delta = torch.randn(6, 3) @ torch.randn(3, 9)

    a, b, energy = low_rank(delta, 3)
    assert torch.allclose(b @ a, delta, atol=1e-4)
    assert energy == pytest.approx(float(delta.square().sum()), rel=1e-4)

    a, b, energy = low_rank(delta, 1)
    assert energy == pytest.approx(float(delta.square().sum() - (delta - b @ a).square().sum()), rel=1e-4)
    a, b, _ = low_rank(delta, 8)  # wider than it needs: the rest is zero
    assert (a.shape, b.shape, bool((b[:, 6:] == 0).all())) == ((8, 9), (6, 8), True)


def test_a_lower_rank_of_an_adapter(shrink: Train, train: Train, tiny: Registry, recipe_path: Path) -> None:
    train(recipe_path, "output=adapter", "steps=6")

    whole = shrink("model=desk", "rank=8")
    part = shrink("model=desk", "rank=2", "data.heldout=heldout.jsonl")

    assert whole.report["energy_kept"] == pytest.approx(1, abs=1e-4)
    assert whole.report["logits_difference"] < 1e-3  # type: ignore[operator]
    assert 0.2 < part.report["energy_kept"] < 1  # type: ignore[operator]
    assert part.checkpoint is not None
    manifest = part.checkpoint.manifest
    assert (manifest.kind, [parent.ref for parent in manifest.parents]) == ("adapter", ["tiny@1", "desk@1"])
    assert manifest.evaluation["perplexity_after"] < manifest.evaluation["perplexity_base"]


def test_an_adapter_out_of_two_checkpoints(shrink: Train, train: Train, tiny: Registry, recipe_path: Path) -> None:
    train(recipe_path, "method=sft", "steps=4", "optimizer.learning_rate=2e-3")

    outcome = shrink("model=desk", "rank=32")

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.manifest.base == tiny.resolve("tiny").manifest.as_ref()
    # Embeddings, norms and the output layer, which were trained too, are no linear modules.
    assert 0.3 < outcome.report["energy_kept"] < 1  # type: ignore[operator]
    source: Any = resolve_source("small", tiny, False)
    trained, base = (load_model(resolve_source(name, tiny, False), torch.float32) for name in ("desk", "tiny"))
    folded: Any = load_model(source, torch.float32).merge_and_unload()
    for name, value in folded.state_dict().items():
        expected = trained if "_proj" in name else base
        assert torch.allclose(value, expected.state_dict()[name], atol=1e-4), name


def test_what_cannot_be_shrunk_is_one_line(shrink: Train, tiny: Registry) -> None:
    with pytest.raises(SourceError, match=r"^tiny@1 does not say what it was trained from: set base$"):
        shrink("model=tiny")
    with pytest.raises(TrainingError, match=r"^tiny@1 and its base do not differ, or not by finite numbers$"):
        shrink("model=tiny", "base=tiny")


def test_the_shipped_recipe_runs(train: Train, tiny: Registry, recipe_path: Path) -> None:
    train(recipe_path, "steps=2")

    heldout = recipe_path.parent / "heldout.jsonl"
    outcome = train(REPOSITORY / "recipes" / "shrink.yaml", "model=desk", f"data.heldout={heldout}")

    assert outcome.checkpoint is not None
