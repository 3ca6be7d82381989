from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving import pip
from serving.pip import CPU_INDEX, torch_index_arguments, why_it_failed


@pytest.fixture(autouse=True)
def plain_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip.sys, "platform", "linux")
    monkeypatch.setattr(pip.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(pip, "NVIDIA_DRIVER", Path("/no/driver"))


def python_whose_pip_has(folder: Path, package: str) -> Path:
    """A stand-in for Python: its `-m pip install` finds one package, and says what it was asked."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\nfor last; do :; done\n[ "$last" = "{package}" ]\n')
    path.chmod(0o755)
    return path


def test_no_index_is_added_where_pip_finds_a_cpu_build(tmp_path: Path) -> None:
    python = python_whose_pip_has(tmp_path, "torch==2.13.0+cpu")

    assert torch_index_arguments(python, "torch==2.13.0") == []


def test_pytorchs_index_is_added_where_pip_finds_none(tmp_path: Path) -> None:
    python = python_whose_pip_has(tmp_path, "torch==2.13.0")  # the CUDA build, as on a plain machine

    assert torch_index_arguments(python, "torch==2.13.0") == ["--extra-index-url", CPU_INDEX]


def test_the_question_installs_nothing(tmp_path: Path) -> None:
    torch_index_arguments(python_whose_pip_has(tmp_path, ""), "torch==2.13.0")

    assert {"--dry-run", "--no-deps"} <= set((tmp_path / "asked").read_text().split())


def test_a_gpu_takes_the_common_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(pip, "NVIDIA_DRIVER", driver)

    assert torch_index_arguments(python_whose_pip_has(tmp_path, ""), "torch==2.13.0") == []


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "aarch64")])
def test_elsewhere_the_common_build_is_right(
    system: str, machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip.sys, "platform", system)
    monkeypatch.setattr(pip.platform, "machine", lambda: machine)

    assert torch_index_arguments(python_whose_pip_has(tmp_path, ""), "torch==2.13.0") == []


def test_the_real_pip_answers() -> None:
    """A version that no index has: pip says so, and downloads nothing."""
    assert torch_index_arguments(Path(sys.executable), "torch==0.0.99") == ["--extra-index-url", CPU_INDEX]


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
