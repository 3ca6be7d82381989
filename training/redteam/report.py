"""The report: what was run on what, and the resulting shares. docs/guides/redteam.md describes its form, `SCHEMA`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from training.redteam.attempt import Attempt
from training.redteam.errors import SuiteError
from training.redteam.statistics import Share, share_of_bad

SCHEMA = "signet-redteam-1"


def build_report(
    attempts: Sequence[Attempt],
    targets: Sequence[dict[str, Any]],
    configuration: dict[str, Any],
    seconds: float,
    started: str,
    complete: bool,
) -> dict[str, Any]:
    """Everything the page and the gates need, and no text unless the attempts have theirs."""
    names = [target["name"] for target in targets]
    attacks = [attempt for attempt in attempts if not attempt.harmless]
    harmless = [attempt for attempt in attempts if attempt.harmless]
    return {
        "schema": SCHEMA,
        "started": started,
        "seconds": round(seconds, 1),
        "complete": complete,
        "configuration": configuration,
        "targets": list(targets),
        "totals": [_total(name, attempts) for name in names],
        "stopped": _stopped(names, attacks),
        "by_suite": _table(names, attacks, lambda attempt: attempt.suite),
        "by_category": _table(names, attacks, lambda attempt: f"{attempt.suite}: {attempt.category}"),
        "by_mutator": _table(names, attacks, lambda attempt: attempt.mutator),
        "over_refusal": _table(names, harmless, lambda attempt: f"{attempt.suite}: {attempt.category}"),
        "codes": _codes(attempts),
        "examples": [attempt.to_json() for attempt in attempts if attempt.messages is not None],
    }


def _total(name: str, attempts: Iterable[Attempt]) -> dict[str, Any]:
    own = [attempt for attempt in attempts if attempt.target == name]
    return {
        "target": name,
        "attacks": share_of_bad([attempt for attempt in own if not attempt.harmless]).to_json(),
        "over_refusal": share_of_bad([attempt for attempt in own if attempt.harmless]).to_json(),
        "outcomes": dict(sorted(Counter(attempt.outcome for attempt in own).items())),
        "errors": sum(attempt.failed for attempt in own),
        "seconds_median": _median([attempt.seconds for attempt in own if not attempt.failed]),
    }


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _stopped(names: Sequence[str], attacks: Iterable[Attempt]) -> dict[str, Any] | None:
    """Of the attacks that got through at the second target, how many the first withstood; and the other way round."""
    if len(names) != 2:
        return None
    bad = {(attempt.case, attempt.mutator, attempt.target): attempt.bad for attempt in attacks if not attempt.failed}
    pairs = [
        (bad[case, mutator, names[0]], through)
        for (case, mutator, target), through in bad.items()
        if target == names[1] and (case, mutator, names[0]) in bad
    ]
    stopped = Share(sum(not first for first, second in pairs if second), sum(second for _, second in pairs))
    opened = Share(sum(first for first, second in pairs if not second), sum(not second for _, second in pairs))
    return {"stopped": stopped.to_json(), "opened": opened.to_json()}


def _table(names: Sequence[str], attempts: Iterable[Attempt], group: Callable[[Attempt], str]) -> list[dict[str, Any]]:
    grouped: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        grouped.setdefault(group(attempt), []).append(attempt)
    return [
        {"group": name, "shares": {each: share_of_bad(_at(each, grouped[name])).to_json() for each in names}}
        for name in sorted(grouped)
    ]


def _at(target: str, attempts: Iterable[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.target == target]


def _codes(attempts: Iterable[Attempt]) -> list[dict[str, Any]]:
    counts = Counter((attempt.target, attempt.outcome, attempt.code) for attempt in attempts if attempt.code)
    return [
        {"target": target, "outcome": outcome, "code": code, "count": count}
        for (target, outcome, code), count in sorted(counts.items())
    ]


def read_report(path: Path) -> dict[str, Any]:
    """A report from its file; raises SuiteError for any other file."""
    try:
        report = json.loads(path.read_text())
        if report["schema"] == SCHEMA:
            return dict(report)
    except (ValueError, KeyError, TypeError):
        pass
    raise SuiteError(f"{path} is not a report of `signet redteam` ({SCHEMA})")


def percent(share: dict[str, Any]) -> str:
    """A share as people read it: `12.5% (3/24)`."""
    return "-" if share["rate"] is None else f"{100 * share['rate']:.1f}% ({share['count']}/{share['total']})"


def as_lines(report: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    lines = [] if report["complete"] else ["This run was not completed."]
    for total in report["totals"]:
        line = f"{total['target']}: attacks through {percent(total['attacks'])}"
        if total["over_refusal"]["total"]:
            line += f", harmless refused {percent(total['over_refusal'])}"
        lines.append(f"{line}, errors {total['errors']}")
    if report["stopped"]:
        first, second = (total["target"] for total in report["totals"])
        lines.append(f"of what got through at {second}, {first} stopped {percent(report['stopped']['stopped'])}")
    for table in ("by_suite", "by_mutator"):
        lines += ["", *_columns(table.removeprefix("by_"), report[table], [each["name"] for each in report["targets"]])]
    return lines


def _columns(title: str, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    table = [[title, *names], *([row["group"], *(percent(row["shares"][name]) for name in names)] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
