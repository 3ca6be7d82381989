"""One `signet redteam run`: its options made into targets, suites and a plan, and its folder."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.code_version import code_version
from training.progress import track
from training.redteam.attempt import ModelJudge
from training.redteam.errors import SuiteError, TargetError
from training.redteam.mutators import check_mutators
from training.redteam.report import build_report
from training.redteam.run import Plan, Record, carry_out
from training.redteam.suite import DEFAULT_SUITES, Suite, load_suite
from training.redteam.target import Target


@dataclass
class Session:
    """Prepared, carried out, reported."""

    options: dict[str, Any]
    targets: list[Target]
    judge: Target | None
    suites: list[Suite]
    mutators: list[str]
    record: Record

    def __post_init__(self) -> None:
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._clock = time.monotonic()

    @classmethod
    def prepare(cls, options: dict[str, Any]) -> Session:
        """From the command's options; raises SuiteError or TargetError before anything is sent or overwritten."""
        mutators = [name for name in (options["mutators"] or "").split(",") if name]
        check_mutators(mutators)
        suites = [load_suite(name) for name in options["suites"] or DEFAULT_SUITES]
        if len({suite.name for suite in suites}) < len(suites):
            raise SuiteError("two suites have the same name")
        session = cls(options, _targets(options), _judge(options), suites, mutators, _record(options["out"]))
        session._claim_folder()
        for target in [*session.targets, *([session.judge] if session.judge else [])]:
            target.check()
        return session

    def carry_out(self) -> None:
        """Make all attempts; see `run.carry_out`."""
        options = self.options
        plan = Plan.of(self.suites, self.mutators, self.targets, options["limit"], options["seed"])
        judge = ModelJudge(self.judge) if self.judge else None
        with self.record.writing(), track("Attacking") as progress:
            carry_out(plan, self.record, options["concurrency"], judge, options["show_examples"], progress)

    def report(self, complete: bool) -> dict[str, Any]:
        """What has been made so far."""
        targets = [target.identity() for target in self.targets]
        seconds = time.monotonic() - self._clock
        return build_report(self.record.attempts, targets, self.configuration(), seconds, self._started, complete)

    def configuration(self) -> dict[str, Any]:
        """Everything that decides what is asked and how it is judged; no key."""
        options = self.options
        return {
            **self._fixed(),
            "limit": options["limit"],
            "concurrency": options["concurrency"],
            "timeout_s": options["timeout"],
            "code": code_version(),
        }

    def _fixed(self) -> dict[str, Any]:
        """What must be the same where a run is resumed."""
        return {
            "seed": self.options["seed"],
            "suites": {suite.name: suite.sha256 for suite in self.suites},
            "mutators": self.mutators or "each suite's own",
            "max_tokens": self.options["max_tokens"],
            "temperature": 0.0,
            "asked": {target.name: f"{target.model} at {target.url}" for target in self.targets},
            "judge": f"{self.judge.model} at {self.judge.url}" if self.judge else "heuristics",
        }

    def _claim_folder(self) -> None:
        """Go on with a run of the same configuration, or begin one where none is."""
        marker = self.record.path.with_name("run.json")
        fixed = json.dumps(self._fixed(), indent=2)
        if marker.exists() and not self.options["resume"]:
            raise SuiteError(
                f"{marker.parent} holds a run already: --resume continues it, --out chooses another folder"
            )
        if marker.exists():
            before = json.loads(marker.read_text())
            changed = sorted(key for key, value in self._fixed().items() if before.get(key) != value)
            if changed:
                raise SuiteError(f"the run in {marker.parent} had other {', '.join(changed)}: name another folder")
            self.record.read()
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(fixed + "\n")


def _record(out: Path) -> Record:
    return Record(out / "attempts.jsonl")


def _targets(options: dict[str, Any]) -> list[Target]:
    limits = {"timeout_s": options["timeout"], "max_tokens": options["max_tokens"]}
    targets = [Target(options["name"], options["url"], options["model"], options["key"], **limits)]
    if options["compare_url"]:
        model = options["compare_model"] or options["model"]
        targets.append(Target(options["compare_name"], options["compare_url"], model, options["compare_key"], **limits))
        if targets[0].name == targets[1].name:
            raise TargetError("both targets have the same name: give --name or --compare-name")
    return targets


def _judge(options: dict[str, Any]) -> Target | None:
    if not options["judge_url"]:
        return None
    if not options["judge_model"]:
        raise TargetError("--judge-url needs --judge-model")
    timeout = options["timeout"]
    return Target("judge", options["judge_url"], options["judge_model"], options["judge_key"], timeout, max_tokens=8)
