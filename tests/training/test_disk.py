from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from training.disk import WORK_ABANDONED_SECONDS, disk_fault, work_folder
from training.errors import TrainingError
from training.methods import adapters
from training.outcome import Outcome
from training.registry import Registry


def within(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), "a.bin: cannot be written: No space left"),
        (OSError(errno.ENOSPC, "No space left on device"), "/home: cannot be written: No space left"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: cannot be written: Read-only file system"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "/home: cannot be written: No space"),
        (Exception("Disk quota exceeded (os error 122)"), "/home: cannot be written: Disk quota exceeded"),
        (within(RuntimeError("unexpected pos"), OSError(errno.ENOSPC, "")), "/home: cannot be written: No space left"),
        (OSError(errno.ENOENT, "No such file", "a"), None),
        (ValueError("a bug"), None),
        (RuntimeError("inline_container: a bug"), None),
    ],
)
def test_a_disks_fault_is_told_whatever_wraps_it(error: Exception, why: str | None) -> None:
    found = disk_fault(error, Path("/home"))

    assert found == why or (why is not None and found is not None and found.startswith(why))


def test_a_full_disk_is_one_line_and_registers_nothing(
    train: Callable[..., Outcome],
    tiny: Registry,
    tmp_path: Path,
    write_chats: Callable[..., Path],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    write_chats("train.jsonl", [(f"Question {number}?", "Yes.") for number in range(9)])
    (tmp_path / "r.yaml").write_text("method: sft\nname: desk\nbase: tiny\ndata: {train: train.jsonl}\nsteps: 1\n")
    monkeypatch.setattr(adapters, "save_merged", full)

    with pytest.raises(TrainingError, match=rf"^{home}: cannot be written: No space left on device$"):
        train(tmp_path / "r.yaml")

    assert [checkpoint.ref for checkpoint in tiny.list()] == ["tiny@1"]
    assert not any((home / "cache").iterdir())


def test_a_state_that_pytorch_could_not_write_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.methods.run_folder import RunFolder

    def cut(*_: object) -> None:
        raise within(RuntimeError("[enforce fail at inline_container.cc]"), OSError(errno.ENOSPC, ""))

    monkeypatch.setattr(torch, "save", cut)
    folder = RunFolder(tmp_path, {})

    with pytest.raises(TrainingError, match=r"state\.pt: cannot be written: No space left on device"):
        folder.save({})

    assert not list(tmp_path.iterdir())


def test_the_folder_is_gone_afterwards_whatever_happens(home: Path) -> None:
    def fail() -> None:
        with work_folder(home) as folder:
            (folder / "weights").write_text("half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()

    assert os.listdir(home / "cache") == []


def test_what_a_killed_run_left_is_removed_a_week_later(home: Path) -> None:
    old, recent, foreign = (home / "cache" / name for name in ("training-old", "training-recent", "models"))
    for folder in (old, recent, foreign):
        folder.mkdir(parents=True)
    long_ago = time.time() - WORK_ABANDONED_SECONDS - 60
    for folder in (old, foreign):
        os.utime(folder, (long_ago, long_ago))

    with work_folder(home):
        assert (old.exists(), recent.exists(), foreign.exists()) == (False, True, True)
