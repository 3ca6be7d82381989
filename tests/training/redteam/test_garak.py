from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from training.redteam.errors import SuiteError, TargetError
from training.redteam.garak import GarakRun, garak_command, read_garak_log, run_garak
from training.redteam.target import Target

ROWS = [
    {"entry_type": "start_run setup", "_config.version": "0.17.1"},
    {"entry_type": "attempt", "prompt": "secret words"},
    {"entry_type": "eval", "probe": "dan.Dan", "detector": "d1", "passed": 6, "nones": 1, "total_evaluated": 10},
    {"entry_type": "eval", "probe": "dan.Dan", "detector": "d2", "passed": 9, "nones": 1, "total_evaluated": 10},
    {"entry_type": "eval", "probe": "encoding.Hex", "detector": "d", "passed": 5, "total": 5},
]
LOG = "".join(json.dumps(row) + "\n" for row in ROWS) + '{"entry_type": "ev'
TARGET = Target("target", "http://127.0.0.1:1/v1", "m", "sk-1")


def test_its_report_in_the_form_of_ours(tmp_path: Path) -> None:
    log = tmp_path / "x.report.jsonl"
    log.write_text(LOG)

    report = read_garak_log(log, TARGET.identity())

    assert [row["group"] for row in report["by_suite"]] == ["dan.Dan", "encoding.Hex"]
    assert report["by_suite"][0]["shares"]["target"]["count"] == 4
    assert [row["group"] for row in report["by_category"]] == ["dan.Dan: d1", "dan.Dan: d2", "encoding.Hex: d"]
    assert (report["totals"][0]["attacks"]["count"], report["totals"][0]["attacks"]["total"]) == (4, 15)
    assert report["totals"][0]["errors"] == 1
    assert report["configuration"]["tool"] == "garak 0.17.1"
    assert "secret words" not in json.dumps(report)


def test_a_file_without_evaluations_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "x.jsonl"
    log.write_text("[]\nnonsense\n")

    with pytest.raises(SuiteError, match="no evaluation"):
        read_garak_log(log, TARGET.identity())


def test_the_key_is_not_on_the_command_line(tmp_path: Path) -> None:
    command = garak_command("garak", TARGET, GarakRun("dan", seed=3), tmp_path / "g")

    assert "sk-1" not in " ".join(command)
    options = json.loads(command[command.index("--generator_options") + 1])["openai"]["OpenAICompatible"]
    assert options == {"uri": TARGET.url, "max_tokens": TARGET.max_tokens, "stop": None}
    assert "--config" not in command


def stand_in(folder: Path, code: int) -> None:
    """A program in garak's place: it checks its key and writes its report where it was told to."""
    program = folder / "garak"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nassert os.environ['OPENAICOMPATIBLE_API_KEY'] == 'sk-1'\n"
        "told = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "prefix = told['--report_prefix']\n"
        "assert json.load(open(told['--config']))['run']['soft_probe_prompt_cap'] == 6\n"
        f"open(prefix + '.report.jsonl', 'w').write({LOG!r})\nsys.exit({code})\n"
    )
    program.chmod(0o755)


def test_it_is_run_where_it_is_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert run_garak(TARGET, GarakRun("dan", limit=6), tmp_path)["totals"][0]["attacks"]["total"] == 15

    stand_in(tmp_path, 3)
    with pytest.raises(TargetError, match="exit code 3"):
        run_garak(TARGET, GarakRun("dan", limit=6), tmp_path)


def test_where_it_is_not_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(TargetError, match="garak is not on PATH"):
        run_garak(TARGET, GarakRun("dan", limit=6), tmp_path)
