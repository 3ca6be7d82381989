"""Every section of a recipe with every method that follows a gradient: it runs, or one line says why not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from tests.support.tiny_bert import write_tiny_bert
from training.errors import RecipeError
from training.evaluate import resolve_source
from training.outcome import Context
from training.recipes import METHODS, load_recipe
from training.recipes.sections import GradientRecipe
from training.registry import ManifestDraft, Registry

LABELS = {"data": {"train": "labels.jsonl"}}
CHATS = {"data": {"train": "chats.jsonl"}}
RUNS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft", "base": "tiny", **CHATS},
    "pretrain": {
        "method": "pretrain",
        "tokenizer": "tiny",
        "data": {"train": "text.txt", "block": 16},
        "model": {"depth": 2, "width": 64, "heads": 2},
        "evaluate_every": 1,
    },
    "classify": {"method": "classify", "base": "bert", **LABELS},
    "generative": {"method": "classify", "base": "tiny", "head": "generative", **LABELS},
    "dpo": {"method": "dpo", "base": "tiny", "data": {"train": "pairs.jsonl"}},
    "embed": {"method": "embed", "base": "bert", "data": {"train": "queries.jsonl"}},
    "distill": {"method": "distill", "teacher": "tiny", "student": {"layers": 1}, **CHATS},
    "prune": {"method": "prune", "base": "tiny", "prune": {"layers": 1}, **CHATS},
}
SECTIONS: dict[str, dict[str, Any]] = {
    "adapter": {"adapter": "lora"},
    "precision and schedule": {"precision": "bf16", "schedule": {"shape": "wsd"}},
    "privacy": {"privacy": {"epsilon": 8, "delta": 1e-3}, "adapter": "lora"},
    "privacy of all": {"privacy": {"epsilon": 8, "delta": 1e-3}},
    "sharding": {"sharding": "full"},
    "sharding of an adapter": {"sharding": "full", "adapter": "lora"},
    "sharding and privacy": {"sharding": "full", "privacy": {"epsilon": 8}},
    "sharding and fp16": {"sharding": "full", "precision": "fp16"},
    "sharding and layers": {"sharding": "full", "layers": 1},
}
# Whole, private runs compute each example by itself: one method shows it.
_ONCE = {"privacy of all": "pretrain"}
REFUSED = {
    ("sharding and privacy", ""): "sharding: with privacy it must be none",
    ("sharding and fp16", ""): "sharding: set precision to fp32 or bf16",
    ("sharding and layers", "classify"): "sharding: with layers it must be none",
    ("sharding and layers", "generative"): "sharding: with layers it must be none",
    ("sharding and layers", ""): r"unknown setting 'layers': this method does not take it \(classify do",
    ("adapter", "pretrain"): "unknown setting 'adapter': this method does not take it",
    ("sharding of an adapter", "pretrain"): "unknown setting 'adapter': this method does not take it",
    ("privacy", "pretrain"): "unknown setting 'adapter': this method does not take it",
    ("privacy", "embed"): "privacy: a pair's loss depends on its whole batch",
    ("privacy", "prune"): "privacy: the parts to remove are chosen by the examples",
    # Of the same section in other methods.
    ("sharding and privacy", "embed"): "sharding: with privacy it must be none",
}


class Done(Exception):
    """A run came as far as its registration."""

    def __init__(self, evaluation: Mapping[str, float]) -> None:
        self.evaluation = evaluation


class Probe:
    """A trial, which ends before anything is written."""

    def report(self, look: int, loss: float) -> None:
        assert math.isfinite(loss)

    def finish(self, evaluation: Mapping[str, float]) -> NoReturn:
        raise Done(evaluation)


@pytest.fixture
def folder(tmp_path: Path, tiny: Registry) -> Path:
    """Data of every kind, and an encoder `bert` beside the model `tiny`."""
    tiny.register(write_tiny_bert(tmp_path / "bert"), "bert", ManifestDraft(kind="embedder"))
    chat = ("user", "assistant")
    rows: dict[str, list[dict[str, Any]]] = {
        "chats": [{"messages": [{"role": r, "content": f"{r} {i}"} for r in chat]} for i in range(30)],
        "labels": [{"text": "ab"[i % 2] * 5 + f" {i}", "label": "ab"[i % 2]} for i in range(30)],
        "pairs": [{"prompt": f"q {i}", "chosen": "yes", "rejected": "no"} for i in range(30)],
        "queries": [{"query": f"q {i}", "text": f"t {i} a"} for i in range(30)],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 20)
    return tmp_path


@pytest.mark.parametrize("name", RUNS)
def test_every_section_runs_or_says_why_not(name: str, folder: Path, home: Path, tiny: Registry) -> None:
    path = folder / "recipe.yaml"

    def losses(section: Mapping[str, Any]) -> list[float]:
        path.write_text(yaml.safe_dump({"name": "x", "steps": 2, "batch_size": 4, **RUNS[name], **section}))
        recipe = load_recipe(path)
        context = Context(
            recipe_path=path,
            home=home,
            registry=tiny,
            find_model=lambda ref: resolve_source(ref, tiny, show_progress=False),
            show=False,
            trial=Probe(),
        )
        with pytest.raises(Done) as done:
            METHODS[recipe.method].run(recipe, context)
        return [done.value.evaluation[key] for key in ("first_loss", "last_loss") if key in done.value.evaluation]

    plain = losses({})
    for title, section in SECTIONS.items():
        why = REFUSED.get((title, name)) or REFUSED.get((title, ""))
        if why is not None:
            with pytest.raises(RecipeError, match=why) as raised:
                losses(section)
            assert "\n" not in str(raised.value)
        elif _ONCE.get(title, name) == name:
            found = losses(section)
            assert all(map(math.isfinite, found))
            if title == "sharding":
                assert found == pytest.approx(plain, rel=1e-4)


def test_every_method_that_follows_a_gradient_is_in_the_table() -> None:
    gradient = {name for name, method in METHODS.items() if issubclass(method.recipe, GradientRecipe)}

    assert {run["method"] for run in RUNS.values()} == gradient
