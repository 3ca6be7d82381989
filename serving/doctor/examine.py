"""Runs checks side by side. One that hangs is left behind, and one that fails says so: neither costs the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serving.doctor.finding import Check, Finding, NotChecked, warning

# Longer than any wait inside of a check: those say what they waited for.
TIMEOUT_S = 20.0


@dataclass(slots=True)
class Outcome:
    """What became of one check."""

    subject: str
    findings: list[Finding] = field(default_factory=list)
    not_checked: str = ""
    """Why it, or the rest of it, could not be made; empty: all of it was."""


def examine(
    checks: Sequence[Check], timeout_s: float = TIMEOUT_S, on_done: Callable[[int, int], None] = lambda *_: None
) -> list[Outcome]:
    """Run all checks at once and give their outcomes in the same order, `timeout_s` seconds later at most.

    `on_done(done, total)` is called as they end.
    """
    runs = [_Run(check) for check in checks]
    for run in runs:
        run.start()
    deadline = time.monotonic() + timeout_s
    for done, run in enumerate(runs):
        on_done(done, len(runs))
        run.join(max(0.0, deadline - time.monotonic()))
    on_done(len(runs), len(runs))
    return [run.outcome(timeout_s) for run in runs]


class _Run(threading.Thread):
    """A daemon: the program ends without it where it hangs."""

    def __init__(self, check: Check) -> None:
        super().__init__(name=f"signet-doctor-{check.subject}", daemon=True)
        self._check = check
        self._findings: list[Finding] = []
        self._not_checked = ""
        self._done = threading.Event()

    def run(self) -> None:
        try:
            for finding in self._check.run():
                self._findings.append(finding)
        except NotChecked as reason:
            self._not_checked = str(reason)
        except Exception as failure:
            # Without its message: it may quote a secret.
            self._not_checked = f"the check itself failed ({type(failure).__name__}): please report it"
        self._done.set()

    def outcome(self, timeout_s: float) -> Outcome:
        findings = list(self._findings)
        if self._done.is_set():
            return Outcome(self._check.subject, findings, self._not_checked)
        hangs = warning(
            f"the check of {self._check.subject} did not end within {timeout_s:g} s",
            "what it asks hangs, and whoever else asks it will wait as long",
            "look at the log of what is checked, and at the network in between",
        )
        return Outcome(self._check.subject, [*findings, hangs])
