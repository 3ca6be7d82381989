import re
import shutil
import subprocess
from pathlib import Path

import pytest

from training import code_version as module


def test_commit_of_this_checkout_or_the_release() -> None:
    assert re.fullmatch(r"git:[0-9a-f]{40}(-dirty)?|signet \S+", module.code_version())


def test_edited_checkout_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = tmp_path / "training" / "recipes" / "code_version.py"
    copied.parent.mkdir(parents=True)
    shutil.copy(module.__file__, copied)
    monkeypatch.setattr(module, "__file__", str(copied))
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    clean = module.code_version()
    copied.write_text("edited")

    assert re.fullmatch(r"git:[0-9a-f]{40}", clean)
    assert module.code_version() == f"{clean}-dirty"


def test_outside_a_checkout_the_release_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "training" / "recipes" / "code_version.py"))

    assert re.fullmatch(r"signet \S+|unknown", module.code_version())
