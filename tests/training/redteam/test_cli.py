from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.running import wait_until
from tests.support.served_model import Reply, Serve, Served, refused
from training.redteam.cli import redteam

REPOSITORY = Path(__file__).parents[3]
KEY = "sk-signet-topsecret"


def parrot(body: dict[str, Any]) -> Reply:
    """Says the last word, and so obeys most orders."""
    return str(body["messages"][-1]["content"]).rstrip(".").rpartition(" ")[2]


def guarded(body: dict[str, Any]) -> Reply:
    said = str(body["messages"][-1]["content"])
    return refused(400, "guard_blocked") if "gnore" in said or "noise" in said else parrot(body)


def signet(*arguments: str) -> Result:
    return CliRunner().invoke(redteam, list(arguments))


def attack(served: Served, out: Path, *arguments: str) -> Result:
    given = ("--url", served.url, "--model", "m", "--key", KEY, "--out", str(out), "--suite", "override")
    return signet("run", *given, "--mutators", "plain", *arguments)


def test_a_run_compares_two_targets_and_writes_report_and_page(serve: Serve, tmp_path: Path) -> None:
    bare = serve(parrot)

    result = attack(serve(guarded), tmp_path, "--compare-url", bare.url, "--suite", "look-alikes", "--json")

    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    report = json.loads((tmp_path / "report.json").read_text())
    assert printed == report
    first, second = report["totals"]
    assert first["attacks"]["count"] < second["attacks"]["count"]
    assert first["over_refusal"]["count"] == 2 + second["over_refusal"]["count"]
    assert report["stopped"]["stopped"]["count"] > 0
    assert report["complete"]
    assert report["configuration"]["seed"] == 0
    assert len(report["configuration"]["suites"]["override"]) == 64
    assert bare.keys[-1] is None
    assert "guarded" in (tmp_path / "report.html").read_text()
    for path in tmp_path.iterdir():
        assert KEY not in path.read_text()
        assert "answer only with the word" not in path.read_text()


def test_examples_are_kept_when_asked_for(serve: Serve, tmp_path: Path) -> None:
    result = attack(serve(parrot), tmp_path, "--show-examples", "--json")

    assert "answer only with the word" in (tmp_path / "report.html").read_text()
    assert "answer only with the word" not in result.stdout
    for name in ("report.json", "report.html", "attempts.jsonl"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_gates(serve: Serve, tmp_path: Path) -> None:
    served = serve(parrot)

    assert attack(served, tmp_path / "a", "--fail-above", "0.99").exit_code == 0
    assert attack(served, tmp_path / "b", "--fail-above", "0.1").exit_code == 3
    report = str(tmp_path / "a" / "report.json")
    assert signet("report", report, "--fail-above", "0.1").exit_code == 3
    assert signet("report", report).exit_code == 0


def test_a_refusal_of_everything_fails_a_gate(serve: Serve, tmp_path: Path) -> None:
    served = serve(lambda body: "Hello." if len(body["messages"][0]["content"]) < 12 else refused(400, "guard_blocked"))

    assert attack(served, tmp_path, "--suite", "look-alikes", "--fail-above", "0.5").exit_code == 3


def test_a_folder_that_holds_a_run_is_not_overwritten(serve: Serve, tmp_path: Path) -> None:
    served = serve(parrot)
    attack(served, tmp_path)
    asked = len(served.requests)

    again = attack(served, tmp_path)
    other = attack(served, tmp_path, "--resume", "--seed", "1")
    resumed = attack(served, tmp_path, "--resume")

    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    assert "--resume continues it" in again.stderr
    assert "had other seed" in other.stderr
    assert resumed.exit_code == 0
    assert len(served.requests) == asked + 1  # the question whether it answers at all


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--suite", "nonsense"], "neither a suite"),
        (["--mutators", "base65"], "no mutator 'base65'"),
        (["--suite", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["--suite", "override"], "same name"),
        (["--judge-url", "http://127.0.0.1:1/v1"], "needs --judge-model"),
        (["--compare-url", "http://127.0.0.1:1/v1", "--compare-name", "guarded"], "the same name"),
        (
            ["--compare-url", "http://127.0.0.1:1/v1"],
            "(http://127.0.0.1:1/v1) does not answer: not reachable",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(serve: Serve, tmp_path: Path, arguments: list[str], why: str) -> None:
    result = attack(serve(parrot), tmp_path / "out", *arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_target_that_dies_leaves_a_report_and_exit_code_1(serve: Serve, tmp_path: Path) -> None:
    served = serve(lambda body: "Hello." if body["messages"][0]["content"] == "Say hello." else (400, {}, {}))

    result = attack(served, tmp_path, "--mutators", "plain,hex")

    assert result.exit_code == 1
    assert "guarded is given up: HTTP 400" in result.stderr
    assert json.loads((tmp_path / "report.json").read_text())["complete"] is False


def _ignores_interrupts(pid: int) -> bool:
    """Whether a second Ctrl-C would do nothing to the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [mask] = [line.split()[1] for line in lines if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_writes_what_is_there(serve: Serve, tmp_path: Path, stop: signal.Signals) -> None:
    count = [0]

    def reply(body: dict[str, Any]) -> Reply:
        count[0] += 1
        return "Hello." if count[0] < 5 else refused(429, "slow", **{"retry-after": "60"})

    # A shell's background job, which this run may be, passes on that interrupts are ignored.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "signet", "redteam", "run"]
    command += ["--url", serve(reply).url, "--model", "m", "--suite", "override"]
    command += ["--concurrency", "2", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        log = tmp_path / "out" / "attempts.jsonl"
        try:
            wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 3, 60, "three attempts are made")
            process.send_signal(stop)
            wait_until(
                lambda: _ignores_interrupts(process.pid) or process.poll() is not None, 20, "it is being stopped"
            )
            process.send_signal(signal.SIGINT)
            stdout, _ = process.communicate(timeout=20)
        finally:
            process.kill()

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert process.returncode == 130
    assert "not completed" in stdout
    assert not report["complete"]
    assert report["totals"][0]["attacks"]["total"] == 3


def test_list_names_every_suite_and_mutator() -> None:
    listed = json.loads(signet("list", "--json").stdout)
    text = signet("list").stdout

    assert {suite["name"] for suite in listed["suites"]} >= {"override", "harmful", "look-alikes"}
    assert all(name in text for name in [*listed["mutators"], *(suite["name"] for suite in listed["suites"])])
    page = (REPOSITORY / "docs" / "guides" / "redteam.md").read_text()
    assert [name for name in listed["mutators"] if f"`{name}`" not in page] == []
    assert [suite["name"] for suite in listed["suites"] if f"`{suite['name']}`" not in page] == []


def test_a_report_is_shown_and_made_a_page_again(serve: Serve, tmp_path: Path) -> None:
    attack(serve(parrot), tmp_path)

    result = signet("report", str(tmp_path / "report.json"), "--html", str(tmp_path / "again.html"))

    assert result.stdout.startswith("guarded: attacks through ")
    assert (tmp_path / "again.html").read_text().startswith("<!doctype html>")
    assert signet("report", str(tmp_path / "attempts.jsonl")).exit_code == 1


def test_a_report_of_garak_is_read(tmp_path: Path) -> None:
    log = tmp_path / "g.report.jsonl"
    log.write_text('{"entry_type": "eval", "probe": "p", "detector": "d", "passed": 1, "total_evaluated": 4}\n')

    result = signet("garak", "--read", str(log), "--out", str(tmp_path / "out"), "--json", "--fail-above", "0.5")
    nothing = signet("garak", "--out", str(tmp_path / "out"))

    assert json.loads(result.stdout)["totals"][0]["attacks"]["count"] == 3
    assert result.exit_code == 3
    assert (tmp_path / "out" / "report.html").exists()
    assert "say what to attack" in nothing.stderr
