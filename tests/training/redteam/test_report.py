from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from training.redteam.attempt import Attempt
from training.redteam.errors import SuiteError
from training.redteam.page import render_page
from training.redteam.report import as_lines, build_report, read_report

TARGETS = [{"name": name, "url": f"http://{name}/v1", "model": "m"} for name in ("guarded", "bare")]


def attempt(target: str, case: str, outcome: str, **more: Any) -> Attempt:
    suite, _, _ = case.partition("/")
    given = {
        "key": case,
        "mutator": "plain",
        "category": "c",
        "harmless": suite == "kind",
        "code": None,
        "seconds": 1.0,
    }
    return Attempt(**{**given, "target": target, "suite": suite, "case": case, "outcome": outcome, **more})


ATTEMPTS = [
    attempt("guarded", "a/1", "held"),
    attempt("bare", "a/1", "through"),
    attempt("guarded", "a/2", "blocked", code="guard_blocked"),
    attempt("bare", "a/2", "through", mutator="plain"),
    attempt("guarded", "a/3", "through"),
    attempt("bare", "a/3", "through"),
    attempt("guarded", "a/4", "through"),
    attempt("bare", "a/4", "held"),
    attempt("guarded", "a/5", "error", code="timeout"),
    attempt("bare", "a/5", "through"),
    attempt("guarded", "kind/1", "answered"),
    attempt("bare", "kind/1", "answered"),
    attempt("guarded", "kind/2", "blocked", code="guard_blocked"),
    attempt("bare", "kind/2", "refused"),
]


def report(attempts: list[Attempt] = ATTEMPTS, **more: Any) -> dict[str, Any]:
    given = {"targets": TARGETS, "configuration": {"seed": 0}, "seconds": 2.0, "started": "today", "complete": True}
    return build_report(attempts, **{**given, **more})


def counts(share: dict[str, Any]) -> tuple[int, int]:
    return share["count"], share["total"]


def test_shares_count_what_has_an_outcome() -> None:
    guarded, bare = report()["totals"]

    assert (counts(guarded["attacks"]), counts(bare["attacks"])) == ((2, 4), (4, 5))
    assert (counts(guarded["over_refusal"]), counts(bare["over_refusal"])) == ((1, 2), (1, 2))
    assert (guarded["errors"], bare["errors"]) == (1, 0)
    assert guarded["outcomes"] == {"answered": 1, "blocked": 2, "error": 1, "held": 1, "through": 2}


def test_targets_are_compared_attack_by_attack() -> None:
    stopped = report()["stopped"]

    assert counts(stopped["stopped"]) == (2, 3)
    assert counts(stopped["opened"]) == (1, 1)
    assert report(targets=TARGETS[:1])["stopped"] is None


def test_harmless_questions_are_in_a_table_of_their_own() -> None:
    made = report()

    assert [row["group"] for row in made["by_suite"]] == ["a"]
    assert [row["group"] for row in made["over_refusal"]] == ["kind: c"]
    assert made["codes"] == [
        {"target": "guarded", "outcome": "blocked", "code": "guard_blocked", "count": 2},
        {"target": "guarded", "outcome": "error", "code": "timeout", "count": 1},
    ]


def test_a_report_is_read_back_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report()))

    assert read_report(path) == report()
    for text in ("{}", "[]", "{", '{"schema": "other"}'):
        path.write_text(text)
        with pytest.raises(SuiteError, match="is not a report"):
            read_report(path)


def test_lines_for_a_terminal() -> None:
    lines = as_lines(report(complete=False))

    assert lines[0] == "This run was not completed."
    assert "guarded: attacks through 50.0% (2/4), harmless refused 50.0% (1/2), errors 1" in lines
    assert "of what got through at bare, guarded stopped 66.7% (2/3)" in lines


EVIL = "<script>alert(1)</script>\u202e"


def test_the_page_loads_nothing_and_escapes_everything() -> None:
    told = [{"role": "user", "content": EVIL}, {"role": "assistant", "content": None}]
    shown = attempt("guarded", f"a/{EVIL}", "through", messages=told, answers=[EVIL], category=EVIL, code=EVIL)
    targets = [{**TARGETS[0], "model": EVIL, "url": EVIL}]

    page = render_page(report([shown], targets=targets, configuration={EVIL: EVIL}))

    assert "<script" not in page
    assert "\\u{202e}" in page
    assert page.count("&lt;script&gt;") >= 5
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", page)
    assert "prefers-color-scheme: dark" in page


def test_the_page_shows_shares_bars_and_no_texts_unless_kept() -> None:
    page = render_page(report())

    assert "2 of 4" in page
    assert "<svg" in page
    assert page.count('class="bar b') == 2
    assert "Examples" not in page
    assert "stopped before its end" not in page
    assert "stopped before its end" in render_page(report([], complete=False))
