import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from training.errors import RecipeError, SourceError, TrainingError
from training.evaluate import resolve_source
from training.evaluate.measurement import measure_source
from training.methods import adapters, agreement
from training.outcome import Outcome
from training.registry import ManifestDraft, Registry

Run = Callable[..., Outcome]


@pytest.fixture
def run(recipe_path: Path, train: Callable[..., Outcome], tiny: Registry) -> Run:
    """Run the tiny recipe with some settings changed."""
    return partial(train, recipe_path)


def test_training_learns_and_registers_what_it_measured(
    run: Run, tiny: Registry, recipe_path: Path, home: Path
) -> None:
    outcome = run()

    assert outcome.checkpoint is not None
    assert outcome.checkpoint.ref == "desk@1"
    assert outcome.report["perplexity_after"] < outcome.report["perplexity_before"] / 2
    tiny.verify(outcome.checkpoint)
    measured = measure_source(resolve_source("desk@1", tiny, False), recipe_path.parent / "heldout.jsonl", 256, False)
    assert measured.perplexity.value == pytest.approx(outcome.report["perplexity_after"], rel=1e-6)
    assert os.listdir(home / "cache") == []


def test_manifest_says_how_it_was_made(run: Run, tiny: Registry) -> None:
    outcome = run("steps=2")

    assert outcome.checkpoint is not None
    manifest = outcome.checkpoint.manifest
    base = tiny.resolve("tiny@1")
    assert manifest.kind == "merged"
    assert manifest.base == base.manifest.as_ref()
    assert manifest.parents == [base.manifest.as_ref()]
    assert manifest.recipe is not None
    assert manifest.recipe.name == "tiny-sft.yaml"
    assert manifest.recipe.settings["steps"] == 2
    assert [(digest.name, digest.rows, digest.role) for digest in manifest.data] == [
        ("train.jsonl", 20, "train"),
        ("heldout.jsonl", 6, "heldout"),
    ]
    assert manifest.evaluation["perplexity_after"] == outcome.report["perplexity_after"]
    assert manifest.evaluation["perplexity_before"] == outcome.report["perplexity_before"]
    assert manifest.tokenizer_digest == base.manifest.tokenizer_digest
    assert manifest.control_tokens == ["<|endoftext|>", "<|im_end|>", "<|im_start|>"]
    assert manifest.license == "Apache-2.0"
    assert manifest.code_version


def test_all_weights_can_be_trained(run: Run, tiny: Registry, recipe_path: Path) -> None:
    outcome = run("method=sft", "steps=8", "optimizer.learning_rate=2e-3")

    assert outcome.report["perplexity_after"] < outcome.report["perplexity_before"] / 2
    assert outcome.checkpoint is not None
    measured = measure_source(resolve_source("desk", tiny, False), recipe_path.parent / "heldout.jsonl", 256, False)
    assert measured.perplexity.value == pytest.approx(outcome.report["perplexity_after"], rel=1e-6)


def test_an_adapter_alone_needs_one(run: Run) -> None:
    with pytest.raises(RecipeError, match="output: adapter needs the section adapter"):
        run("method=sft", "output=adapter")


def test_same_seed_same_losses(run: Run) -> None:
    assert run("steps=4").report["losses"] == run("steps=4").report["losses"]
    assert run("steps=4").report["losses"] != run("steps=4", "seed=4").report["losses"]


def test_micro_batches_do_not_change_the_result(run: Run) -> None:
    whole, parts = run("steps=6"), run("steps=6", "micro_batch_size=1")

    assert parts.report["losses"] == pytest.approx(whole.report["losses"], rel=1e-3)
    assert parts.report["perplexity_after"] == pytest.approx(whole.report["perplexity_after"], rel=1e-3)


def test_held_out_part_of_one_file(run: Run, recipe_path: Path, write_chats: Callable[..., Path]) -> None:
    write_chats("train.jsonl", [(f"Question {number}?", f"Answer {number}.") for number in range(60)])

    outcome = run("steps=1", "data.heldout=null", "data.heldout_fraction=0.2")

    assert outcome.checkpoint is not None
    train, heldout = outcome.checkpoint.manifest.data
    assert train.rows + heldout.rows == 60
    assert (train.role, heldout.role) == ("train", "heldout")
    assert train.sha256 == heldout.sha256


def test_a_folder_is_learned_from_and_named(run: Run, recipe_path: Path, write_chats: Callable[..., Path]) -> None:
    (recipe_path.parent / "chats").mkdir()
    for name in "ab":
        write_chats(f"chats/{name}.jsonl", [(f"Question {name}{number}?", "Yes.") for number in range(20)])

    outcome = run("steps=1", "data.train=chats", "data.heldout=null", "data.heldout_fraction=0.3")

    assert outcome.checkpoint is not None
    data = outcome.checkpoint.manifest.data
    assert {digest.name for digest in data if digest.role == "train"} == {"chats/a.jsonl", "chats/b.jsonl"}
    held_out = sum(digest.rows for digest in data if digest.role == "heldout")
    assert f"in {held_out} chats of chats, which were held out" in outcome.notes[0]


def test_adapter_is_registered_for_its_base_alone(run: Run, tiny: Registry, recipe_path: Path) -> None:
    outcome = run("output=adapter", "name=adapter")

    source = resolve_source("adapter", tiny, show_progress=False)

    assert source.kind == "adapter"
    assert source.base is not None
    assert source.base.identity.ref == "tiny@1"
    measured = measure_source(source, recipe_path.parent / "heldout.jsonl", 256, False)
    assert measured.perplexity.value == pytest.approx(outcome.report["perplexity_after"], rel=1e-6)


@pytest.mark.parametrize("kind", ["quantized", "adapter"])
def test_what_cannot_be_trained_says_what_to_train_instead(
    run: Run, tiny: Registry, tiny_model_folder: Path, tmp_path: Path, kind: str
) -> None:
    base = tiny.resolve("tiny").manifest.as_ref()
    folder = shutil.copytree(tiny_model_folder, tmp_path / "other")
    tiny.register(folder, "other", ManifestDraft(kind=kind, base=base))  # type: ignore[arg-type]

    with pytest.raises(SourceError, match=f"other@1 is {kind} and cannot be trained further: train tiny@1"):
        run("base=other")


def test_hopeless_learning_rate_is_one_line_and_registers_nothing(run: Run, tiny: Registry) -> None:
    with pytest.raises(RecipeError, match=r"the loss is no longer a number: lower optimizer\.learning_rate"):
        run("optimizer.learning_rate=1e30", "optimizer.clip_norm=1e30")

    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("fold", "merging spoils the model"),
        ("round_to", "rounding to bfloat16 spoils the model"),
        ("save_merged", "the files do not hold the model"),
    ],
)
def test_what_merging_spoils_is_not_registered(
    run: Run, tiny: Registry, monkeypatch: pytest.MonkeyPatch, part: str, fault: str
) -> None:
    do = getattr(adapters, part)

    def spoil(model: Any, *rest: Any) -> Any:
        if part == "save_merged":  # the embeddings' first rows are written as zeros
            model.get_output_embeddings().weight.data[:100] = 0
        done = do(model, *rest)
        if part != "save_merged":
            (done or model).get_output_embeddings().weight.data[:100] = 0
        return done

    monkeypatch.setattr(adapters, part, spoil)
    with pytest.raises(RecipeError, match=rf"^{fault}: its outputs differ by \S+ of their spread"):
        run("steps=2")

    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]


@pytest.mark.parametrize("output", ["merged", "adapter"])
def test_an_adapter_that_is_written_as_no_change_is_not_registered(
    run: Run, tiny: Registry, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """As others did: what was registered was silently the base."""
    real = agreement.load_model

    def load(source: Any, dtype: Any) -> Any:
        return real(resolve_source("tiny", tiny, False), dtype)

    monkeypatch.setattr(agreement, "load_model", load)
    with pytest.raises(RecipeError, match=r"^the files do not hold the model"):
        run("steps=8", f"output={output}")


@pytest.mark.parametrize(
    ("kind", "output"),
    [("dora", "merged"), ("ia3", "merged"), ("ia3", "adapter"), ("prefix", "adapter"), ("bottleneck", "adapter")],
)
def test_other_kinds_of_adapters_learn(run: Run, tiny: Registry, recipe_path: Path, kind: str, output: str) -> None:
    outcome = run("method=sft", f"adapter={kind}", f"output={output}", "steps=25", "optimizer.learning_rate=0.05")

    losses: Any = outcome.report["losses"]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert outcome.checkpoint is not None
    measured = measure_source(resolve_source("desk", tiny, False), recipe_path.parent / "heldout.jsonl", 256, False)
    assert measured.perplexity.value == pytest.approx(outcome.report["perplexity_after"], rel=1e-4)
    assert any(note.startswith("Engines serve LoRA") for note in outcome.notes) is (output == "adapter")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("adapter=prefix", "a prefix cannot be folded into weights: set output: adapter"),
        ("adapter=bottleneck", "a bottleneck is not linear and cannot be folded into weights: set output: adapter"),
        ("adapter=lorra", "adapter: Input tag 'lorra' found .* 'lora', 'dora', 'ia3', 'prefix', 'bottleneck'"),
        ("adapter={kind: ia3, rank: 4}", r"unknown setting 'adapter\.rank'"),
        ("adapter={kind: ia3, feed_forward: [x]}", "feed_forward names modules that are not in targets"),
    ],
)
def test_adapters_that_cannot_be_are_one_line(run: Run, settings: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        run("method=sft", settings)


def test_interruption_registers_nothing_and_leaves_nothing(
    run: Run, tiny: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapters, "save_merged", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("steps=1")

    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]
    assert os.listdir(home / "cache") == []


def test_held_out_chat_among_the_trained_ones_is_refused(run: Run, write_chats: Callable[..., Path]) -> None:
    write_chats("heldout.jsonl", [("Question 3?", "It is open until ten. Happy measuring!")])

    with pytest.raises(TrainingError, match=r"heldout\.jsonl:1: is held out, but .*train\.jsonl:4"):
        run()


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [["batch_size=3"], ["batch_size=4", "sharding=full", "micro_batch_size=1"]])
def test_two_processes_train_as_one_does(
    run: Run, recipe_path: Path, home: Path, tiny: Registry, overrides: list[str]
) -> None:
    alone = run("steps=5", overrides[0])
    script = recipe_path.parent / "run.py"
    script.write_text(RUN_DISTRIBUTED)
    arguments = [str(script), str(recipe_path), str(home), "steps=5", *overrides]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stderr
    results = [json.loads((recipe_path.parent / f"result-{rank}.json").read_text()) for rank in range(2)]
    assert sorted(str(result["ref"]) for result in results) == ["None", "desk@2"]
    assert all(result["losses"] == pytest.approx(alone.report["losses"], rel=1e-3) for result in results)
    assert all(
        result["perplexity_after"] == pytest.approx(alone.report["perplexity_after"], rel=1e-3) for result in results
    )
    tiny.verify(tiny.resolve("desk@2"))


RUN_DISTRIBUTED = """
import json, os, sys
from pathlib import Path
from training.evaluate import resolve_source
from training.outcome import Context
from training.recipes import METHODS, load_recipe
from training.registry import Registry
path, home = Path(sys.argv[1]), Path(sys.argv[2])
registry = Registry(home / "registry", home / "keys")
find_model = lambda ref: resolve_source(ref, registry, False)
context = Context(recipe_path=path, home=home, registry=registry, find_model=find_model, show=False)
recipe = load_recipe(path, sys.argv[3:])
outcome = METHODS[recipe.method].run(recipe, context)
ref = outcome.checkpoint.ref if outcome.checkpoint else None
# A file each: what two processes write to one pipe may lie in one line.
(path.parent / f"result-{os.environ['RANK']}.json").write_text(json.dumps({"ref": ref, **outcome.report}))
"""
