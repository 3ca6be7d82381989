"""A model in a browser: the same tokens as in PyTorch, on a page that fits a phone and says what it runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from signet import cli
from training.evaluate import resolve_source
from training.evaluate.loading import load_model, load_tokenizer
from training.export import chromium, to_web, web_packages
from training.export.folder import ExportError
from training.export.greedy import TEXTS, expected_answers
from training.registry import Registry

WRITING_BROWSER = """
import json, os, sys, urllib.request
profile = next(word for word in sys.argv if word.startswith("--user-data-dir=")).partition("=")[2]
child = os.fork()
while not child:
    try:
        os.makedirs(profile + "/wasm", exist_ok=True)
    except OSError:
        pass
told = json.dumps({"child": child, "profile": profile}).encode()
urllib.request.urlopen(sys.argv[-1].replace("check.html", "found"), told)
os.wait()
"""

CACHE = Path(__file__).parents[3] / ".signet" / "cache" / "web"


@pytest.fixture
def packages() -> None:
    """Skips where neither the cache nor npm has them."""
    try:
        for package in web_packages.PACKAGES:
            web_packages._unpacked(package, CACHE)
    except ExportError as error:
        pytest.skip(str(error))


@pytest.mark.skipif(chromium.find_chromium() is None, reason="Chromium is not installed")
@pytest.mark.usefixtures("packages")
@pytest.mark.processes
def test_a_browser_answers_as_pytorch_does(
    tiny: Registry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("SIGNET_HOME", str(home))
    (home / "cache").mkdir(parents=True, exist_ok=True)
    os.symlink(CACHE, home / "cache" / "web")
    folder = tmp_path / "web"
    # The export asks in Chromium too, a few texts: with all of them it need not be started once more.
    monkeypatch.setattr(to_web, "CHECKED_TEXTS", len(TEXTS))
    monkeypatch.setattr(to_web, "CHECKED_TOKENS", 12)
    answered: list[dict[str, Any]] = []
    ask = chromium.ask_in_chromium

    def ask_and_keep(*arguments: Any) -> dict[str, Any]:
        answered.append(ask(*arguments))
        return answered[-1]

    monkeypatch.setattr(to_web.chromium, "ask_in_chromium", ask_and_keep)

    done = CliRunner().invoke(cli, ["export", "tiny", "--to", "web", "--output", str(folder), "--json"])

    assert done.exit_code == 0, done.output
    facts = json.loads((folder / "export.json").read_bytes())
    assert {"model.onnx", "tokenizer.json", "lib/jinja.mjs"} <= facts["files"].keys()
    assert facts["checked_in_onnxruntime"] is (importlib.util.find_spec("onnxruntime") is not None)
    assert (facts["checked_in_chromium"], facts["digest"]) == (True, tiny.resolve("tiny").digest)
    source = resolve_source("tiny", tiny, False)
    model = load_model(source, torch.float32).eval()
    expected = expected_answers(model, load_tokenizer(source.path), TEXTS, 12)
    [found] = answered
    same = [each.agrees(**answer) for each, answer in zip(expected, found["answers"], strict=True)]
    assert sum(same) == len(TEXTS) == 20
    assert facts["digest"] in found["text"]
    assert (found["state"], found["width"]) == ("Ready", chromium.PHONE[0])

    weights = next(folder.glob("model.onnx.*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    told = ask(folder, TEXTS[:1], 1, seconds=120)["error"]
    assert f"{weights.name}: " in told
    assert "bytes came" in told


def test_a_browser_that_still_writes_is_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "browser"
    program.write_text(f"#!{sys.executable}\n{WRITING_BROWSER}")
    program.chmod(0o755)
    monkeypatch.setattr(chromium, "find_chromium", lambda: str(program))

    found = chromium.ask_in_chromium(tmp_path, [], 1, seconds=60)

    # A killed process stays in the table until whoever inherited it takes its end.
    assert wait_until_ended(found["child"])
    assert not Path(found["profile"]).exists()


def wait_until_ended(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_nothing_of_the_page_names_another_host() -> None:
    page = Path(web_packages.__file__).parent / "web"
    for file in page.iterdir():
        assert "http" not in file.read_text().replace("http-equiv", ""), file


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        (cwd / "package.tgz").write_bytes(b"another")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(web_packages.subprocess, "run", pack)
    monkeypatch.setattr(web_packages.shutil, "which", lambda _: "npm")
    with pytest.raises(ExportError, match=r"onnxruntime-web@.* differs from the pinned SHA-256"):
        web_packages.copy_packages(tmp_path / "cache", tmp_path / "lib")

    monkeypatch.setattr(web_packages.shutil, "which", lambda _: None)
    with pytest.raises(ExportError, match="npm is not installed"):
        web_packages.copy_packages(tmp_path / "cache", tmp_path / "lib-2")
