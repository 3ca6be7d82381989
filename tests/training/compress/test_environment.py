"""Real environments from a package index of two tiny wheels; the real package is in test_worker.py."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import threading
import venv
import zipfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from serving.processes.child import Child
from tests.support.running import wait_until
from training.compress import environment
from training.compress.environment import Environment, ensure_environment
from training.compress.errors import EnvironmentUnavailable

ROOT = Path(__file__).parents[3]


def build_wheel(folder: Path, name: str, needs: str = "") -> str:
    """Write a wheel; returns the line that pins it."""
    facts = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "answer = 42\n")
        wheel.writestr(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
        wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{facts}/RECORD", "")
    digest = hashlib.sha256(Path(wheel.filename or "").read_bytes()).hexdigest()
    return f"{name}==1.0 \\\n    --hash=sha256:{digest}\n"


@pytest.fixture(scope="module")
def small_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that borrows the tests' own pip: `venv` would take ten seconds to install one."""
    folder = tmp_path_factory.mktemp("environment") / "small"
    venv.create(folder, symlinks=True)  # without pip
    [packages] = folder.glob("lib/python*/site-packages")
    # Not imported to be found: beside pip, setuptools takes the standard library's distutils, which warns.
    (packages / "pip").symlink_to(Path(sysconfig.get_path("purelib")) / "pip")
    return folder


@pytest.fixture
def cache(tmp_path: Path, small_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of a machine whose package index has `compressor` and `torch`."""
    index = tmp_path / "index"
    index.mkdir()
    for package, name in (("compressor", "PACKAGES"), ("torch", "TORCH_CPU")):
        pins = tmp_path / f"{package}.txt"
        pins.write_text("# a comment\n" + build_wheel(index, package))
        monkeypatch.setattr(environment, name, pins)
    monkeypatch.setattr(environment, "DISK_GB", {"cpu": 0, "gpu": 0})
    monkeypatch.setattr(
        environment, "_create", lambda made: shutil.copytree(small_environment, made.folder, symlinks=True)
    )
    monkeypatch.setattr(environment, "takes_cpu_torch", lambda: True)
    monkeypatch.setattr(environment, "cpu_index_arguments", lambda python, pinned: [])
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return tmp_path / "cache"


def test_an_environment_is_created_with_pip(tmp_path: Path) -> None:
    environment._create(Environment(tmp_path))

    said = subprocess.check_output([Environment(tmp_path).python, "-I", "-m", "pip", "--version"], text=True)
    assert str(tmp_path) in said


def make(cache: Path) -> Path:
    return ensure_environment(cache, cache.parent / "logs" / "environment.log", show_progress=False)


def test_the_first_call_makes_an_environment_that_works(cache: Path) -> None:
    python = make(cache)

    said = subprocess.check_output([python, "-I", "-c", "import compressor; print(compressor.answer)"])
    assert said == b"42\n"
    assert python.is_relative_to(cache)


def test_the_second_call_takes_what_is_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = make(cache)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")  # a second installation would fail

    assert make(cache) == python


def test_a_half_made_environment_is_made_anew(cache: Path) -> None:
    leftover = Environment.below(cache).folder / "bin" / "leftover"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    leftover.with_name("python").touch()

    make(cache)

    assert not leftover.exists()
    assert Environment.below(cache).is_complete


def test_an_environment_whose_python_has_gone_is_made_anew(cache: Path) -> None:
    folder = Environment.below(cache).folder
    folder.mkdir(parents=True)
    (folder / environment.COMPLETE).touch()

    assert make(cache).exists()


def test_other_pins_make_another_environment(cache: Path) -> None:
    before = Environment.below(cache).folder
    change(environment.PACKAGES, "compressor==1.0", "compressor==1.1")

    assert Environment.below(cache).folder != before


def test_a_second_run_waits_for_the_first(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    cache.mkdir()
    with (cache / "compress.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(
            target=lambda: made.append(ensure_environment(cache, cache.parent / "log")), daemon=True
        )
        waiting.start()
        wait_until(lambda: "Waiting for another run" in capsys.readouterr().err, 10, "it says that it waits")
        assert not Environment.below(cache).folder.exists()
    waiting.join(60)

    assert made == [Environment.below(cache).python]


def test_an_interrupted_installation_is_not_taken_for_complete(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pips: list[Child] = []

    def start(*arguments: Any, **more: Any) -> Child:
        pips.append(Child(*arguments, **more))
        return pips[-1]

    monkeypatch.setattr(environment, "Child", start)
    monkeypatch.setattr(environment, "_progress_of", lambda said, folder: raise_interrupt())
    with pytest.raises(KeyboardInterrupt):
        make(cache)

    assert pips[0].poll() is not None
    assert not Environment.below(cache).is_complete


def raise_interrupt() -> tuple[int, int, str]:
    raise KeyboardInterrupt


def test_an_unreachable_index_ends_in_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")

    with pytest.raises(EnvironmentUnavailable, match=r"no package index was reached: check the network") as failure:
        make(cache)

    assert "\n" not in str(failure.value)
    assert "environment.log" in str(failure.value)
    assert not Environment.below(cache).is_complete


def test_a_missing_package_is_named(cache: Path) -> None:
    change(environment.PACKAGES, "compressor==1.0", "compressor==7.0")

    with pytest.raises(EnvironmentUnavailable, match=r"the package index has no compressor==7\.0"):
        make(cache)


def test_a_package_that_differs_from_its_hash_is_not_installed(cache: Path) -> None:
    change(environment.PACKAGES, "sha256:", "sha256:0")
    environment.PACKAGES.write_text(re.sub(r"sha256:0(\w{63})\w", r"sha256:0\1", environment.PACKAGES.read_text()))

    with pytest.raises(EnvironmentUnavailable, match="a package differs from its hash"):
        make(cache)
    assert not Environment.below(cache).is_complete


def test_torchs_cpu_build_is_that_of_the_engine() -> None:
    engines = ROOT / "deploy" / "constraints" / "torch.txt"

    assert environment.TORCH_CPU.read_text() == engines.read_text()


def change(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


def test_a_full_disk_is_told_before_anything_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(environment, "DISK_GB", {"cpu": 3, "gpu": 3})
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage(1.2e9))

    with pytest.raises(EnvironmentUnavailable, match=r"needs 3 GB of disk, and 1\.2 GB are free"):
        make(cache)


def test_progress_counts_packages_found_and_installed(cache: Path) -> None:
    python = make(cache)
    said = "Collecting compressor==1.0\n  Downloading compressor-1.0-py3-none-any.whl (12.5 MB)\n"

    assert environment._progress_of(said, cache) == (1, 4, "compressor (12.5 MB)")
    finished = said + "Collecting torch==1.0\nInstalling collected packages: compressor, torch\n"
    assert environment._progress_of(finished, cache) == (2, 4, "installing")
    assert environment._progress_of(finished, python.parents[1]) == (4, 4, "installing")
