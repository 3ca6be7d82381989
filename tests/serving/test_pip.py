from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving import pip
from serving.pip import CPU_INDEX, cpu_index_arguments, takes_cpu_torch, why_it_failed


@pytest.fixture(autouse=True)
def plain_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip.sys, "platform", "linux")
    monkeypatch.setattr(pip.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(pip, "NVIDIA_DRIVER", Path("/no/driver"))


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """A version of torch that no index has."""
    file = tmp_path / "torch.txt"
    file.write_text(f"torch==0.0.99+cpu --hash=sha256:{'0' * 64}\n")
    return file


def python_whose_pip(folder: Path, ends_with: int) -> Path:
    """A stand-in for Python: its `-m pip` says what it was asked."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\nexit {ends_with}\n')
    path.chmod(0o755)
    return path


def test_no_index_is_added_where_pip_has_the_cpu_build(tmp_path: Path, pinned: Path) -> None:
    assert cpu_index_arguments(python_whose_pip(tmp_path, ends_with=0), pinned) == []


def test_the_question_installs_nothing_and_checks_hashes(tmp_path: Path, pinned: Path) -> None:
    cpu_index_arguments(python_whose_pip(tmp_path, ends_with=1), pinned)

    asked = (tmp_path / "asked").read_text().split()
    assert {"--dry-run", "--no-deps", "--require-hashes", str(pinned)} <= set(asked)


def test_pytorchs_index_is_added_where_the_real_pip_has_none(pinned: Path) -> None:
    assert cpu_index_arguments(Path(sys.executable), pinned) == ["--extra-index-url", CPU_INDEX]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_machine_without_a_gpu_takes_the_cpu_build(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip.platform, "machine", lambda: machine)

    assert takes_cpu_torch()


def test_a_gpu_takes_the_common_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(pip, "NVIDIA_DRIVER", driver)

    assert not takes_cpu_torch()


def test_off_linux_the_common_build_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip.sys, "platform", "darwin")

    assert not takes_cpu_torch()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "a package differs from its hash"),
        (
            "WARNING: Retrying\nNewConnectionError(…)\nERROR: No matching distribution found for a",
            "no package index was",
        ),
        ("ERROR: No matching distribution found for torch==0", "the package index has no torch==0 for this machine"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("one\nERROR: something new.\ntwo", "something new"),
        ("", "no reason given"),
    ],
)
def test_a_failure_says_what_to_do(said: str, why: str) -> None:
    assert why_it_failed(said).startswith(why)
