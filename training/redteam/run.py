"""A run: which attempts are made, on several connections at once, each written down when it has been made."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from threading import Thread
from typing import TextIO

from training.progress import Track
from training.redteam.attempt import Attempt, Planned
from training.redteam.case import Case
from training.redteam.errors import TargetError
from training.redteam.judge import Judge
from training.redteam.suite import Suite
from training.redteam.target import Target

MAX_FAILURES_IN_A_ROW = 20
"""Attempts at one target; then it is given up."""


@dataclass(frozen=True)
class Plan:
    """The attempts of a run, in the order in which they begin."""

    attempts: tuple[Planned, ...]

    @classmethod
    def of(
        cls, suites: Sequence[Suite], mutators: Sequence[str], targets: Sequence[Target], limit: int | None, seed: int
    ) -> Plan:
        """Every case with every mutator, of each suite at most `limit`; harmless questions are asked as they are.

        Without mutators, each suite's own are used. All targets are asked the same, in the same shuffled order, so
        that a run that is stopped early has asked some of everything.
        """
        asked: list[tuple[Case, str]] = []
        for suite in suites:
            pairs = [
                (case, mutator)
                for case in suite.cases
                for mutator in (("plain",) if case.harmless else (mutators or suite.mutators))
            ]
            _shuffled(pairs, seed, suite.name)
            asked += pairs[:limit]
        _shuffled(asked, seed, "")
        return cls(tuple(Planned(case, mutator, target, seed) for case, mutator in asked for target in targets))


def _shuffled(pairs: list[tuple[Case, str]], seed: int, what: str) -> None:
    Random(f"{seed} {what}").shuffle(pairs)  # noqa: S311 (a reproducible order)


class Record:
    """The attempts made so far: a JSON line each, flushed at once, so that a run can be resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attempts: list[Attempt] = []
        self._file: TextIO | None = None

    def read(self) -> None:
        """Take over the attempts of an earlier run; those that failed are made again."""
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                attempt = Attempt(**{"code": None, **json.loads(line)})
            except (ValueError, TypeError):
                continue  # the line that a killed run was writing
            if not attempt.failed:
                self.attempts.append(attempt)

    @contextmanager
    def writing(self) -> Iterator[Record]:
        """Rewrites what was taken over, and is open for more."""
        self.path.touch(mode=0o600)  # it may hold the texts of attacks
        with self.path.open("w") as self._file:
            for attempt in self.attempts:
                self._write(attempt)
            yield self

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt, in memory and on disk."""
        self.attempts.append(attempt)
        self._write(attempt)

    def _write(self, attempt: Attempt) -> None:
        assert self._file is not None
        self._file.write(json.dumps(attempt.to_json()) + "\n")
        self._file.flush()


def carry_out(
    plan: Plan, record: Record, concurrency: int, judge: Judge | None, keep_texts: bool, progress: Track
) -> None:
    """Make every attempt that the record lacks; raises TargetError when a target has died.

    Ctrl-C ends it with KeyboardInterrupt; what was made is in the record.
    """
    done = {attempt.key for attempt in record.attempts}
    todo: SimpleQueue[Planned] = SimpleQueue()
    for planned in plan.attempts:
        if planned.key not in done:
            todo.put(planned)
    expected = todo.qsize()
    made: SimpleQueue[Attempt | Exception] = SimpleQueue()
    failures: dict[str, int] = defaultdict(int)
    progress(len(record.attempts), len(plan.attempts))
    # Daemons: Ctrl-C must not wait for answers that are under way.
    for _ in range(concurrency):
        Thread(target=_work, args=(todo, made, judge, keep_texts), name="redteam", daemon=True).start()
    try:
        for _ in range(expected):
            attempt = made.get()
            if isinstance(attempt, Exception):
                raise attempt
            record.add(attempt)
            progress(len(record.attempts), len(plan.attempts))
            failures[attempt.target] = failures[attempt.target] + 1 if attempt.failed else 0
            if failures[attempt.target] >= MAX_FAILURES_IN_A_ROW:
                times = f"{MAX_FAILURES_IN_A_ROW} times in a row"
                raise TargetError(f"{attempt.target} is given up: {attempt.code}, {times}")
    finally:
        for planned in plan.attempts:
            planned.target.stopping.set()


def _work(todo: SimpleQueue[Planned], made: SimpleQueue[Attempt | Exception], judge: Judge | None, keep: bool) -> None:
    while True:
        try:
            planned = todo.get_nowait()
        except Empty:
            return
        if planned.target.stopping.is_set():
            return
        try:
            made.put(planned.make(judge, keep))
        except Exception as error:  # a mistake of ours: raised by whoever waits for the attempt
            made.put(error)
