"""The program of a cleaning process: reads requests from its standard input, writes clean ones to its output.

It knows no key, no engine and no network, and ends when its gateway does: its input ends then.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import BinaryIO

import msgspec

from serving.gateway.cleaning.budget import BudgetSpent, CpuBudget
from serving.gateway.cleaning.messages import (
    LENGTH_BYTES,
    Cleaned,
    Job,
    Refused,
    Reply,
    TooCostly,
    decode_job,
    decode_setup,
    frame,
)
from serving.guard import Guard, GuardRefusal, GuardReport, GuardSettings


def main() -> None:
    """Serve one gateway until it closes the pipe."""
    # The gateway's worker may have had these blocked; Ctrl-C is for the gateway, which then closes the pipe.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Whatever else writes to standard output must not break the frames.
    os.dup2(2, 1)
    if (data := _read(stdin)) is None:
        return
    setup = decode_setup(data)
    guard = Guard(GuardSettings.model_validate_json(setup.settings), setup.control_tokens, setup.secret)
    budget = CpuBudget()
    while (data := _read(stdin)) is not None:
        job = decode_job(data)
        try:
            reply = budget.run(setup.cpu_budget_s, lambda job=job: _clean(guard, job))  # type: ignore[misc]
        except BudgetSpent:
            reply = TooCostly()
        stdout.write(frame(reply))
        stdout.flush()


def _clean(guard: Guard, job: Job) -> Reply:
    body = msgspec.json.decode(job.body)
    try:
        report, remembered = guard.of_tenant(job.tenant).ask_apart(body, job.endpoint)  # type: ignore[arg-type]
    except GuardRefusal as refusal:
        return Refused(refusal.code, refusal.message, refusal.param, _counts(refusal.report))
    return Cleaned(msgspec.json.encode(body), _counts(report), remembered)


def _counts(report: GuardReport | None) -> list[tuple[str, str, int]]:
    return [] if report is None else [(what, action, count) for (what, action), count in report.counts.items()]


def _read(stdin: BinaryIO) -> bytes | None:
    """The next frame's content; None at the end."""
    length = stdin.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "big")
    data = stdin.read(size)
    return data if len(data) == size else None


if __name__ == "__main__":
    main()
