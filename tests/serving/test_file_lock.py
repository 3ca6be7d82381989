"""The lock between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.file_lock import file_lock

HOLD = """
import sys
from pathlib import Path
from serving.file_lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Refused(Exception):
    """Raised instead of waiting."""


def refuse() -> None:
    raise Refused


def test_a_lock_that_another_process_holds_is_waited_for_or_refused(tmp_path: Path) -> None:
    path, waited = tmp_path / "lock", []
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(Refused), file_lock(path, on_wait=refuse):
            pass

        def release() -> None:
            waited.append(path)
            holder.kill()

        with file_lock(path, on_wait=release):
            assert waited == [path]


def test_a_lock_is_released_at_the_end_of_the_block_and_by_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path), pytest.raises(Refused), file_lock(path, on_wait=refuse):
        pass
    with pytest.raises(ZeroDivisionError), file_lock(path, on_wait=refuse):
        1 / 0  # noqa: B018

    with file_lock(path, on_wait=refuse):
        pass


def test_the_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with file_lock(tmp_path / "shared"), file_lock(tmp_path / "own", 0o600):
            pass
    finally:
        os.umask(umask)

    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600
