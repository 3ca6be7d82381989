"""The orchestration, with a small program in the worker's place; the real worker is in test_worker.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.compress import quantize as quantize_module
from training.compress.errors import NotQuantizable, WorkerFailed
from training.compress.quantize import (
    CALIBRATION,
    WINDOW_TOKENS,
    Outcome,
    Request,
    cut_windows,
    quantize,
    registered_name,
    require_quantizable,
)
from training.data import Example, read_chats
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
job = json.loads(sys.stdin.readline())
target = pathlib.Path(job["target"])
(target / "model.safetensors").write_bytes(b"small")
(target / "config.json").write_text(json.dumps({"quantization_config": {"scheme": job["scheme"]}}))
pathlib.Path(__file__).with_name("job.json").write_text(json.dumps(job))
print(json.dumps({"event": "progress", "step": "Quantizing", "done": 1, "total": 1}))
print(json.dumps({"event": "result", "perplexity_before": 12.5, "perplexity_after": 12.75, "tokens": 100,
                  "settings": {"group_size": 64}}))
"""

Run = Callable[..., Outcome]


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
    def run_request(scheme: str = "w8a8", ref: str = "tiny@1", **options: object) -> Outcome:
        request = Request(scheme, **options)  # type: ignore[arg-type]
        return quantize(resolve_source(ref, tiny, False), request, home, tiny, show_progress=False)

    return run_request


def job_of(worker: Path) -> dict[str, object]:
    job: dict[str, object] = json.loads(worker.with_name("job.json").read_text())
    return job


def test_the_result_is_registered_beside_its_parent_and_verifies(run: Run, tiny: Registry) -> None:
    outcome = run("w8a8")

    assert outcome.checkpoint.ref == "tiny-w8a8@1"
    tiny.verify(tiny.resolve("tiny-w8a8@1"))
    tiny.verify(tiny.resolve("tiny@1"))
    assert run("w8a8").checkpoint.ref == "tiny-w8a8@2"


def test_the_manifest_says_how_it_was_made(run: Run, tiny: Registry) -> None:
    manifest = run("w4a16-gptq").checkpoint.manifest

    parent = tiny.resolve("tiny@1").manifest
    assert manifest.kind == "quantized"
    assert manifest.parents == [parent.as_ref()]
    assert manifest.base == parent.as_ref()
    assert manifest.recipe is not None
    assert manifest.recipe.settings["scheme"] == "w4a16-gptq"
    assert manifest.recipe.settings["group_size"] == 64
    assert manifest.evaluation == {"perplexity_before": 12.5, "perplexity_after": 12.75, "heldout_tokens": 100}
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
    assert [len(window) for window in job["calibration"]] == [WINDOW_TOKENS] * 3  # type: ignore[attr-defined]
    assert outcome.samples == 3
    rows = {data.role: data.rows for data in outcome.checkpoint.manifest.data}
    assert rows["calibration"] + rows["heldout"] == len(read_chats(CALIBRATION).chats)
    assert len(job["evaluation"]) == rows["heldout"]  # type: ignore[arg-type]


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

    assert registered_name(checkpoint, Request("w8a8", name="mine")) == "mine"
    with pytest.raises(NotQuantizable, match="--name"):
        registered_name(long, Request("w8a8"))
    with pytest.raises(NotQuantizable, match="'Mine'"):
        registered_name(checkpoint, Request("w8a8", name="Mine"))


def test_windows_are_whole_as_far_as_there_are_any() -> None:
    chat = Example(list(range(WINDOW_TOKENS // 2 + 10)), [], "here")

    assert [len(window) for window in cut_windows([chat] * 4, 9)] == [WINDOW_TOKENS] * 2
    assert len(cut_windows([chat] * 40, 9)) == 9
    assert cut_windows([chat], 9) == [chat.input_ids]
