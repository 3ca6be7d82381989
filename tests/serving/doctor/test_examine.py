"""Checks side by side: one that fails or hangs costs the others nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner, Result

import signet
from serving.doctor.examine import examine
from serving.doctor.finding import Check, Finding, NotChecked, error

WRONG = error("it is off", "it matters", "switch it on")


def test_one_that_hangs_fails_or_gives_up_costs_the_others_nothing() -> None:
    release = threading.Event()

    def finds() -> Iterator[Finding]:
        yield WRONG

    def hangs() -> Iterator[Finding]:
        yield WRONG
        release.wait(30)

    def fails() -> Iterator[Finding]:
        yield WRONG
        raise RuntimeError("password=hunter2")

    def gives_up() -> Iterator[Finding]:
        yield WRONG
        raise NotChecked("nobody is there")

    started = time.monotonic()
    checks = [Check(run.__name__, run) for run in (hangs, finds, fails, gives_up)]
    hung, found, failed, gave_up = examine(checks, timeout_s=0.5)
    release.set()

    assert time.monotonic() - started < 5
    assert [finding.what for finding in hung.findings] == ["it is off", "the check of hangs did not end within 0.5 s"]
    assert [outcome.findings for outcome in (found, failed, gave_up)] == [[WRONG]] * 3
    assert failed.not_checked == "the check itself failed (RuntimeError): please report it"
    assert gave_up.not_checked == "nobody is there"


def doctor(home: Path, *arguments: str, **settings: str) -> Result:
    environment = {"SIGNET_HOME": str(home), "SIGNET_GATEWAY__PORT": "0", "SIGNET_DRIFT__PORT": "0", **settings}
    return CliRunner().invoke(signet.cli, ["doctor", *arguments], env=environment)


def test_exit_codes_and_lines(tmp_path: Path) -> None:
    well = doctor(tmp_path)
    ill = doctor(tmp_path, SIGNET_GATEWAY__PROMPTS="/none")

    assert (well.exit_code, ill.exit_code, doctor(tmp_path, "--wrong").exit_code) == (0, 1, 2)
    assert well.stdout.splitlines()[-1] == "No problem found."
    assert ill.stdout.startswith("error files: gateway.prompts: there is no folder /none with prompt templates")
    assert ill.stdout.splitlines()[-1] == "1 error, 0 warnings."


def test_json(tmp_path: Path) -> None:
    shown = json.loads(doctor(tmp_path, "--json", SIGNET_GATEWAY__PROMPTS="/none").stdout)

    assert shown["ok"] is False
    assert [(finding["subject"], finding["severity"]) for finding in shown["findings"]] == [("files", "error")]
    assert {"why", "fix", "what"} <= shown["findings"][0].keys()
    assert "database" in shown["checked"]
    assert set(shown["not_checked"]) == {"engines"}


def test_settings_that_cannot_be_read_are_a_finding_too(tmp_path: Path) -> None:
    result = doctor(tmp_path, "--json", SIGNET_GATEWAY__WORKERS="none")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"][0]["what"].startswith("SIGNET_GATEWAY__WORKERS: setting")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    result = doctor(
        tmp_path,
        SIGNET_DATABASE__URL="postgresql+psycopg://u:hunter2@127.0.0.1:1/x",
        SIGNET_IDENTITY__LIMITS_URL="redis://u:hunter2@127.0.0.1:1/0",
        SIGNET_GATEWAY__ENGINE_URLS='["http://u:hunter2@127.0.0.1:1"]',
        SIGNET_GATEWAY__ENGINE_API_KEY="hunter2",
    )

    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "3 errors, 0 warnings."
    assert "hunter2" not in result.output
