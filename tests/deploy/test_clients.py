"""Client libraries for tests: whole or not there, pinned with hashes, refused in one line."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "tests" / "clients" / "package-lock.json"


@pytest.fixture
def installer(load_script):
    return load_script("deploy/clients.py")


@pytest.fixture
def filled(installer, monkeypatch) -> list[Path]:
    """The environments that were made; each holds one file."""
    made = []

    def fill(environment: Path) -> None:
        environment.mkdir()
        (environment / "package").touch()
        made.append(environment)

    monkeypatch.setattr(installer, "fill", fill)
    return made


def test_second_install_makes_nothing(installer, filled, tmp_path):
    environment = installer.install(tmp_path / "clients")

    assert installer.install(tmp_path / "clients") == environment
    assert len(filled) == 1
    assert (environment / "package").is_file()


def test_new_pins_replace_what_was_installed(installer, filled, tmp_path, monkeypatch):
    older = installer.install(tmp_path / "clients")
    pins = tmp_path / "clients.txt"
    pins.write_text("other==1.0\n")
    monkeypatch.setattr(installer, "PYTHONS", pins)

    newer = installer.install(tmp_path / "clients")

    assert newer != older
    assert list((tmp_path / "clients").iterdir()) == [newer]


def test_an_interrupted_install_leaves_nothing(installer, tmp_path, monkeypatch):
    def fill(environment: Path) -> None:
        environment.mkdir()
        raise installer.ClientsUnavailable("no network")

    monkeypatch.setattr(installer, "fill", fill)

    with pytest.raises(installer.ClientsUnavailable):
        installer.install(tmp_path / "clients")
    assert list((tmp_path / "clients").iterdir()) == []


def test_failure_is_one_line(installer, tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1, stderr="WARNING: slow\nERROR: no such package\nmore\n")
    monkeypatch.setattr(installer.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr("sys.argv", ["clients.py", "--folder", str(tmp_path)])

    assert installer.main() == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "deploy clients: Python's clients cannot be installed: ERROR: no such package"


def test_every_package_has_hashes():
    lines = (ROOT / "deploy" / "constraints" / "clients.txt").read_text().splitlines()
    packages = [line for line in lines if line and line[0] not in "# "]
    locked = {name: one for name, one in json.loads(LOCK.read_text())["packages"].items() if name}

    assert len(packages) > 100
    assert [line for line in packages if not re.search(r"^[\w.-]+==[\w.+]+ (; .+ )?\\$", line)] == []
    assert [name for name, one in locked.items() if not one["integrity"].startswith("sha512-")] == []
