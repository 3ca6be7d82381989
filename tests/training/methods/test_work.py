from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from training.methods.work import WORK_ABANDONED_SECONDS, work_folder


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
