"""Models of one layer learn a rhyme; what is registered is what was measured, and transformers reads it."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.running import signet_environment, wait_until
from training.errors import DataError, RecipeError, TrainingError
from training.registry import Registry

RECIPES = Path(__file__).parents[3] / "recipes"
RHYME = "Hickory dickory dock. The mouse ran up the clock.\n" * 60
SETTINGS = """\
method: pretrain
name: own
data:
  train: rhyme.txt
  block: 16
model:
  depth: 1
  width: 32
  heads: 2
steps: 40
batch_size: 8
optimizer:
  learning_rate: 0.02
evaluate_every: 20
seed: 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "rhyme.txt").write_text(RHYME)
    path = tmp_path / "own.yaml"
    path.write_text(SETTINGS)
    return path


def metrics(home: Path) -> list[dict[str, Any]]:
    """The figures of the run so far."""
    lines = [line for file in home.glob("runs/own-*/metrics.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_a_model_is_trained_measured_and_registered(path: Path, train: Any, store: Registry, home: Path) -> None:
    outcome = train(path)

    manifest = outcome.checkpoint.manifest
    assert (manifest.ref, manifest.kind, manifest.base) == ("own@1", "base", None)
    assert manifest.evaluation["validation_loss"] < 0.5 * math.log(22) < manifest.evaluation["first_loss"]
    nats, tokens = manifest.evaluation["validation_loss"], manifest.evaluation["training_tokens"]
    assert manifest.evaluation["bits_per_byte"] == pytest.approx(nats / math.log(2))  # a character is a byte here
    assert tokens == 40 * 8 * 16
    assert manifest.control_tokens == ["<|endoftext|>"]
    assert [digest.role for digest in manifest.data] == ["train", "heldout"]
    store.verify(outcome.checkpoint)
    looks = [line for line in metrics(home) if "sample" in line]
    assert [line["step"] for line in looks] == [19, 39]
    assert looks[1]["validation_loss"] < looks[0]["validation_loss"]
    assert looks[1]["sample"].startswith(RHYME[round(len(RHYME) * 0.9) :][:8])
    cost = json.loads(next((home / "runs").glob("own-*/cost.json")).read_text())
    assert cost["flops"] == manifest.evaluation["training_flops"]
    assert 0 < cost["utilization"] == cost["flops"] / cost["seconds"] / cost["peak_flops_per_second"]


@pytest.mark.parametrize("experts", [0, 4])
def test_transformers_measures_the_same_loss(path: Path, train: Any, experts: int) -> None:
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outcome = train(path, f"model.experts={experts}", "steps=10")

    folder = outcome.checkpoint.path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tokenizer(RHYME[round(len(RHYME) * 0.9) :])["input_ids"])
    count = (len(ids) - 1) // 16
    with torch.no_grad():
        logits = model(ids[: count * 16].view(count, 16)).logits
    loss = cross_entropy(logits.flatten(0, 1), ids[1 : count * 16 + 1]).item()
    assert outcome.report["validation_loss"] == pytest.approx(loss, abs=1e-5)
    assert (model.config.eos_token_id, model.generation_config.temperature) == (0, 0.8)


@pytest.mark.parametrize("name", ["shakespeare", "shakespeare-experts"])
def test_the_shipped_recipes_run(name: str, train: Any, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(RHYME)

    outcome = train(RECIPES / f"{name}.yaml", f"data.train={tmp_path / 'text.txt'}", "steps=2")

    assert outcome.checkpoint.ref == f"{name}@1"
    assert {"validation_loss", "bits_per_byte"} <= outcome.checkpoint.manifest.evaluation.keys()


def test_a_path_of_the_command_line_starts_where_it_is_typed(
    path: Path, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "typed.txt").write_text(RHYME)
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert train(path, "data.train=typed.txt", "steps=1").checkpoint.ref == "own@1"


def test_the_router_is_watched(path: Path, train: Any, home: Path) -> None:
    train(path, "model.experts=4", "steps=4", "evaluate_every=4")

    entropies = metrics(home)[-1]["router_entropy"]
    assert len(entropies) == 1
    assert 0.3 < entropies[0] <= 1


def test_parts_of_a_batch_give_the_same_losses(path: Path, train: Any) -> None:
    losses = [
        train(path, f"micro_batch_size={size}", f"name=own-{size}", "steps=8").report["losses"] for size in (1, 2, 8)
    ]

    for parts in losses[:2]:
        assert parts == pytest.approx(losses[2], rel=1e-6)


def test_the_tokenizer_of_another_model_is_taken(path: Path, train: Any, tiny: Registry) -> None:
    outcome = train(path, "tokenizer=tiny", "steps=2", "data.block=8")

    base = tiny.resolve("tiny")
    made = outcome.checkpoint
    assert (made.path / "tokenizer.json").read_bytes() == (base.path / "tokenizer.json").read_bytes()
    assert made.manifest.parents == [base.manifest.as_ref()]
    assert json.loads((made.path / "config.json").read_text())["eos_token_id"] == 2


def test_a_tokenizers_folder_is_taken(path: Path, train: Any, tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tiny_model_folder / "tokenizer.json").read_bytes())

    assert train(path, "tokenizer=tokenizer", "steps=1", "data.block=8").checkpoint.ref == "own@1"


def test_documents_are_parted_and_counted_in_bytes(path: Path, train: Any, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"Épisode {number}: <|endoftext|> is text here."}) for number in range(80)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines[:70]))
    (tmp_path / "held.jsonl").write_text("\n".join(lines[70:]))

    outcome = train(path, "data.train=all.jsonl", "data.heldout=held.jsonl", "steps=2")

    assert [digest.rows for digest in outcome.checkpoint.manifest.data] == [70, 10]
    text = [json.loads(line)["text"] for line in lines[70:]]
    num_bytes = len("".join(text).encode()) - 2  # without the first, which nothing comes before
    num_tokens = len("".join(text)) + 9 - 1
    bits = outcome.report["validation_loss"] / math.log(2) * num_tokens / num_bytes
    assert outcome.report["bits_per_byte"] == pytest.approx(bits)


def test_shapes_that_engines_do_not_serve_are_trained_for_their_figures(
    path: Path, train: Any, store: Registry, home: Path
) -> None:
    outcome = train(path, "output=figures", "model.norm=layer", "model.positions=learned", "steps=20")

    assert outcome.checkpoint is None
    assert not store.has("own")
    assert outcome.report["validation_loss"] < outcome.report["losses"][0]
    assert "Nothing was registered" in outcome.notes[-1]


@pytest.mark.parametrize(
    ("overrides", "error", "why"),
    [
        (
            ["model.norm=layer"],
            TrainingError,
            r"do not serve this shape: norm: layer \(it needs rms\); output: figures",
        ),
        (["data.block=4000"], DataError, r"rhyme\.txt: too little text to train on"),
        (["data.block=400"], DataError, r"rhyme\.txt: too little text to hold out"),
        (["data.train=absent.txt"], DataError, r"absent\.txt: cannot be read: No such file.*--set data\.train=FILE$"),
        (["tokenizer=unknown"], Exception, "unknown"),
        (["optimizer.learning_rate=1e30"], RecipeError, "the loss is no longer a number"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_registers_nothing(
    path: Path, train: Any, store: Registry, overrides: list[str], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why) as raised:
        train(path, *overrides)

    assert "\n" not in str(raised.value)
    assert not store.has("own")


def test_it_is_stored_in_what_it_was_calculated_in(path: Path, train: Any) -> None:
    outcome = train(path, "precision=bf16", "steps=12")

    config = json.loads((outcome.checkpoint.path / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert outcome.report["losses"][-1] < outcome.report["losses"][0]


@pytest.mark.slow
def test_killed_and_started_again_it_goes_on_to_the_same_losses(
    path: Path, train: Callable[..., Any], home: Path
) -> None:
    command = ("train", str(path), "--json", "--set", "steps=60", "--set", "save_every=1")

    running = subprocess.Popen(
        [sys.executable, "-m", "signet", *command], env=signet_environment(home), stdout=subprocess.DEVNULL
    )
    wait_until(lambda: len(metrics(home)) >= 5, 120, "five steps are taken", running)
    running.send_signal(signal.SIGKILL)
    running.wait()
    killed_at = len(metrics(home))
    losses = train(path, "steps=60", "save_every=1").report["losses"]

    assert 5 <= killed_at < 60 == len(losses)
    assert len(metrics(home)) < killed_at + 60
    assert losses == train(path, "steps=60", "name=whole").report["losses"]
