"""What `signet doctor` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from serving.doctor.examine import Outcome
from serving.doctor.finding import Finding

_WIDTH = 100
_COLOURS = {"error": "red", "warning": "yellow"}


def json_report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One object: whether all is well, every finding, and what was and was not examined."""
    return {
        "ok": not any(outcome.findings for outcome in outcomes),
        "findings": [
            {"subject": outcome.subject, **asdict(finding)} for outcome in outcomes for finding in outcome.findings
        ],
        "checked": [outcome.subject for outcome in outcomes if not outcome.not_checked],
        "not_checked": {outcome.subject: outcome.not_checked for outcome in outcomes if outcome.not_checked},
    }


def text_report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The same to be read, errors first."""
    found = [(outcome.subject, finding) for outcome in outcomes for finding in outcome.findings]
    for subject, finding in sorted(found, key=lambda entry: entry[1].severity):
        yield from _finding_lines(subject, finding)
    for outcome in outcomes:
        if outcome.not_checked:
            yield _wrapped(f"Not checked: {outcome.subject}: {outcome.not_checked}.", "", "  ")
    counts = Counter(finding.severity for _, finding in found)
    names = ", ".join(outcome.subject for outcome in outcomes if not outcome.not_checked) or "nothing"
    yield _wrapped(f"Checked: {names}.", "", "  ")
    yield _sum(counts["error"], counts["warning"])


def _finding_lines(subject: str, finding: Finding) -> Iterator[str]:
    label = click.style(finding.severity, fg=_COLOURS[finding.severity], bold=True)
    # Wrapped without the label's colour codes, which take no room.
    said = finding.what if finding.what.endswith("?") else f"{finding.what}."
    yield _wrapped(f"{finding.severity} {subject}: {said}", "", "  ").replace(finding.severity, label, 1)
    yield _wrapped(f"Why: {finding.why}.", "  ", "       ")
    yield _wrapped(f"Fix: {finding.fix}.", "  ", "       ")
    yield ""


def _sum(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "No problem found."
    counted = [f"{count} {name}{'s' * (count != 1)}" for count, name in ((errors, "error"), (warnings, "warning"))]
    return ", ".join(counted) + "."


def _wrapped(text: str, first: str, following: str) -> str:
    return click.wrap_text(text, _WIDTH, first, following)
