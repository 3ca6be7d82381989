"""The orchestration, with a small program in the worker's place; the real worker is in test_worker.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.compress import quantize as quantize_module
from training.compress.data import CALIBRATION, WINDOW_TOKENS, DataSelection
from training.compress.errors import NotQuantizable, WorkerFailed
from training.compress.quantize import (
    Losses,
    Outcome,
    Request,
    quantize,
    registered_name,
    require_quantizable,
)
from training.compress.questions import QUESTIONS, read_questions
from training.compress.schemes import parse_scheme
from training.data import read_chats
from training.evaluate import Source, resolve_source
from training.registry import (
    CheckpointRef,
    DriftReference,
    Histogram,
    ManifestDraft,
    Registry,
    RegistryError,
)

# Does as the worker does, and writes down the job.
STAND_IN = """\
import json, pathlib, sys
job = json.loads(open(sys.argv[1]).read())
target = pathlib.Path(job["target"])
(target / "model.safetensors").write_bytes(b"small")
(target / "config.json").write_text(json.dumps({"quantization_config": {"method": job["scheme"]["method"]}}))
pathlib.Path(__file__).with_name("job.json").write_text(json.dumps(job))
def losses(each):
    sets = job["evaluation"].items()
    return {name: [each * len(example["labels"]) for example in examples] for name, examples in sets}
print(json.dumps({"event": "progress", "step": "Quantizing", "done": 1, "total": 1}))
print(json.dumps({"event": "result", "before": losses(2.0) if job["before"] else {}, "after": losses(2.1),
                  "settings": {"group_size": 64}, "bits": {"source": 16.0, "matrices": 4.25, "whole": 6.5},
                  "peak_bytes": 10**9}))
"""

Run = Callable[..., Outcome]

W8A8 = parse_scheme("w8a8")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program in the worker's place: to be overwritten by tests of its failures."""
    path = tmp_path / "worker.py"
    path.write_text(STAND_IN)
    monkeypatch.setattr(quantize_module, "WORKER", path)
    monkeypatch.setattr(quantize_module, "ensure_environment", lambda cache, log, show: Path(sys.executable))
    return path


@pytest.fixture
def run(tiny: Registry, home: Path, worker: Path) -> Run:
    def run_request(
        scheme: str = "w8a8", ref: str = "tiny@1", losses_before: Losses | None = None, **selection: Any
    ) -> Outcome:
        request = Request(parse_scheme(scheme), DataSelection(**selection))
        source = resolve_source(ref, tiny, False)
        return quantize(source, request, home, tiny, show_progress=False, losses_before=losses_before)

    return run_request


def job_of(worker: Path) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(worker.with_name("job.json").read_text())
    return job


def test_the_result_is_registered_beside_its_parent_and_verifies(run: Run, tiny: Registry) -> None:
    outcome = run("w8a8")

    assert outcome.checkpoint.ref == "tiny-w8a8@1"
    tiny.verify(tiny.resolve("tiny-w8a8@1"))
    tiny.verify(tiny.resolve("tiny@1"))
    assert run("w8a8").checkpoint.ref == "tiny-w8a8@2"


def test_the_manifest_says_how_it_was_made(run: Run, tiny: Registry) -> None:
    outcome = run("w4a16-gptq")
    manifest = outcome.checkpoint.manifest

    assert manifest.name == "tiny-w4a16-gptq"
    parent = tiny.resolve("tiny@1").manifest
    assert manifest.kind == "quantized"
    assert manifest.parents == [parent.as_ref()]
    assert manifest.base == parent.as_ref()
    assert manifest.recipe is not None
    assert manifest.recipe.settings["scheme"] == "w4a16-gptq"
    assert manifest.recipe.settings["group_size"] == 64
    assert manifest.evaluation == {
        "perplexity_before": pytest.approx(outcome.first.before),
        "perplexity_after": pytest.approx(outcome.first.after),
        "heldout_tokens": outcome.first.tokens,
        "bits_per_weight": 4.25,
    }
    assert manifest.license == "Apache-2.0"
    digest = hashlib.sha256(CALIBRATION.read_bytes()).hexdigest()
    assert {(data.role, data.sha256) for data in manifest.data} == {("calibration", digest), ("heldout", digest)}


def test_tokenizer_and_template_stay_the_parents_byte_for_byte(run: Run, tiny: Registry) -> None:
    quantized, parent = run().checkpoint, tiny.resolve("tiny@1")

    assert quantized.manifest.tokenizer_digest == parent.manifest.tokenizer_digest is not None
    assert (quantized.path / "chat_template.jinja").read_bytes() == (parent.path / "chat_template.jinja").read_bytes()
    assert (quantized.path / "model.safetensors").read_bytes() == b"small"
    assert "quantization_config" in json.loads((quantized.path / "config.json").read_text())


def test_base_and_drift_reference_are_handed_down(run: Run, tiny: Registry, tmp_path: Path) -> None:
    histogram = Histogram(edges=[0, 10], counts=[3])
    reference = DriftReference(
        prompt_tokens=histogram, completion_tokens=histogram, refusal_rate=0.1, guard_hit_rate=0.2, samples=3
    )
    base = tiny.resolve("tiny@1")
    shutil.copytree(base.path, tmp_path / "merged", ignore=shutil.ignore_patterns("manifest.*"))
    draft = ManifestDraft(kind="merged", base=base.manifest.as_ref(), drift_reference=reference)
    tiny.register(tmp_path / "merged", "desk", draft)

    manifest = run(ref="desk@1").checkpoint.manifest

    assert manifest.base == base.manifest.as_ref()
    assert manifest.parents[0].ref == "desk@1"
    assert manifest.drift_reference == reference


def test_chats_are_calibrated_on_or_measured_on_but_never_both(run: Run, worker: Path) -> None:
    outcome = run("w4a16-gptq", samples=3)

    job = job_of(worker)
    assert [len(window) for window in job["calibration"]] == [WINDOW_TOKENS] * 3
    assert outcome.samples == 3
    rows = {data.role: data.rows for data in outcome.checkpoint.manifest.data}
    assert rows["calibration"] + rows["heldout"] == len(read_chats(CALIBRATION).items)
    assert len(job["evaluation"]["chats"]) == rows["heldout"]
    assert outcome.cost.tokens == 3 * WINDOW_TOKENS


def test_further_texts_and_questions_are_measured_and_stand_in_the_manifest(
    run: Run, worker: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("The quick brown fox. " * 500)

    outcome = run(heldout=(text,), heldout_tokens=2048, task=QUESTIONS)

    sets = job_of(worker)["evaluation"]
    questions = read_questions(QUESTIONS).questions
    assert {name: len(examples) for name, examples in sets.items() if name != "chats"} == {
        "notes": 4, "task": sum(len(question.choices) for question in questions)
    }  # fmt: skip
    assert list(outcome.sets) == ["chats", "notes"]
    assert outcome.sets["notes"].ratio.value == pytest.approx(math.exp(0.1 * 512 / 511))
    assert outcome.task is not None
    assert outcome.task.questions == len(questions)
    evaluation = outcome.checkpoint.manifest.evaluation
    assert evaluation["perplexity_ratio_notes"] == outcome.sets["notes"].ratio.value
    assert evaluation["task_accuracy"] == outcome.task.after.value
    roles = {digest.name: digest.role for digest in outcome.checkpoint.manifest.data[2:]}
    assert roles == {"notes.txt": "evaluation", "questions.jsonl": "evaluation"}


def test_what_was_measured_before_is_not_measured_again(run: Run, worker: Path) -> None:
    first = run("gptq")
    second = run("awq", losses_before=first.losses_before)

    assert job_of(worker)["before"] is False
    assert second.first.before == first.first.before


def test_a_failure_leaves_nothing_behind(run: Run, worker: Path, tiny: Registry, home: Path) -> None:
    worker.write_text(STAND_IN.split("print", maxsplit=1)[0] + "raise MemoryError('no room')")

    with pytest.raises(WorkerFailed, match="MemoryError: no room"):
        run()

    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]
    assert not list((home / "cache").iterdir())


def test_an_interrupt_leaves_nothing_behind(
    run: Run, tiny: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize_module, "copy_companions", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()

    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]
    assert not list((home / "cache").iterdir())


def test_what_a_killed_run_left_is_removed_a_day_later(run: Run, home: Path) -> None:
    old, young = home / "cache" / "quantize-old", home / "cache" / "quantize-young"
    old.mkdir(parents=True)
    young.mkdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))

    run()

    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (ManifestDraft(kind="adapter"), "is an adapter: train with `output: merged`"),
        (
            ManifestDraft(kind="quantized", parents=[CheckpointRef(ref="big@1", digest="sha256:" + "0" * 64)]),
            "is quantized already: quantize big@1 instead",
        ),
    ],
    ids=["adapter", "quantized"],
)
def test_what_is_no_whole_model_is_refused(draft: ManifestDraft, why: str, tiny: Registry, tmp_path: Path) -> None:
    shutil.copytree(tiny.resolve("tiny@1").path, tmp_path / "other", ignore=shutil.ignore_patterns("manifest.*"))
    checkpoint = tiny.register(tmp_path / "other", "other", draft)

    with pytest.raises(NotQuantizable, match=why):
        require_quantizable(Source(checkpoint.path, checkpoint.manifest.as_ref(), checkpoint))


def test_a_folder_is_refused(tiny: Registry) -> None:
    source = resolve_source(str(tiny.resolve("tiny@1").path), tiny, False)

    with pytest.raises(NotQuantizable, match="is not in the registry"):
        require_quantizable(source)


def test_a_changed_parent_is_refused_by_name(run: Run, tiny: Registry) -> None:
    weights = tiny.resolve("tiny@1").path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    with pytest.raises(RegistryError, match=r"model\.safetensors"):
        run()


def test_a_name_that_the_registry_would_refuse_is_told_before_the_work(tiny: Registry) -> None:
    checkpoint = tiny.resolve("tiny@1")
    long = dataclasses.replace(checkpoint, manifest=checkpoint.manifest.model_copy(update={"name": "x" * 60}))

    assert registered_name(checkpoint, Request(W8A8, name="mine")) == "mine"
    with pytest.raises(NotQuantizable, match="--name"):
        registered_name(long, Request(W8A8))
    with pytest.raises(NotQuantizable, match="'Mine'"):
        registered_name(checkpoint, Request(W8A8, name="Mine"))
