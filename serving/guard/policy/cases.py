"""Cases that a policy must decide as expected: its regression tests, without a gateway where no judge is needed."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from serving.guard.classifiers import ClassifierPool
from serving.guard.guard import Guard
from serving.guard.outcome import GuardReport
from serving.guard.policy.decide import Ask, CheckFailed, Decision, JudgedText, decide
from serving.guard.policy.model import ClassifierCheck, Direction, JudgeCheck, Principle
from serving.guard.policy.policy import Policy
from serving.guard.policy.wording import ANSWERS, judge_messages, read_answer

_TIMEOUT_S = 60.0

Outcome = Literal["as expected", "not as expected", "skipped"]


class Expected(BaseModel):
    """What must be among the decisions; `pass`: that there are none."""

    model_config = ConfigDict(extra="forbid")

    action: Literal[
        "pass", "allow", "flag", "mask", "refuse", "revise",
        "would_allow", "would_flag", "would_mask", "would_refuse", "would_revise",
    ]  # fmt: skip
    principle: str | None = None


class Case(BaseModel):
    """A text, and what is expected of it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    input: str | None = None
    output: str | None = None
    tenant: str = "default"
    model: str = "default"
    expect: Expected

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if (self.input is None) == (self.output is None):
            raise ValueError("give either 'input' or 'output'")
        return self

    @property
    def direction(self) -> Direction:
        return "output" if self.input is None else "input"

    @property
    def text(self) -> str:
        return (self.output if self.input is None else self.input) or ""


class CaseFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    cases: list[Case] = Field(min_length=1, max_length=10_000)


@dataclass(frozen=True, slots=True)
class Result:
    """How one case came out."""

    case: Case
    outcome: Outcome
    decisions: Sequence[Decision]
    why: str = ""
    """Why it was skipped."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Where judges are asked: a gateway. Its key should be of a tenant that no principle concerns."""

    gateway_url: str
    key: str


async def run_cases(
    policy: Policy, cases: Sequence[Case], guard: Guard, classifiers: ClassifierPool, judge: Judge | None
) -> list[Result]:
    """Decide one case after the other."""
    return [await _run(policy, case, guard, classifiers, judge) for case in cases]


async def _run(policy: Policy, case: Case, guard: Guard, classifiers: ClassifierPool, judge: Judge | None) -> Result:
    rules = policy.rules(case.direction, case.tenant, case.model)
    text, counts = _cleaned(guard, case)
    judges = _CaseJudges(case.model, classifiers, judge)
    verdict = await decide(
        rules, [JudgedText(text, "user")], counts, judges, on_failure="closed", budget_s=policy.file.budget_ms / 1000
    )
    decisions = list(verdict.decisions)
    if rules.masks is not None:
        report = GuardReport()
        rules.masks.whole(text, report)
        decisions += [Decision(policy.masks[name].id, "mask") for name, _ in report.counts]
    decisions = [decision for decision in decisions if decision.action != "failed"]
    if judges.failures and (case.expect.action == "pass" or not _is_found(case.expect, decisions)):
        return Result(case, "skipped", decisions, judges.failures[0])
    is_expected = _is_found(case.expect, decisions)
    return Result(case, "as expected" if is_expected else "not as expected", decisions)


def _is_found(expected: Expected, decisions: Sequence[Decision]) -> bool:
    if expected.action == "pass":
        return not decisions
    return any(
        decision.action == expected.action and expected.principle in (None, decision.principle)
        for decision in decisions
    )


def _cleaned(guard: Guard, case: Case) -> tuple[str, Mapping[str, int]]:
    """The text as the policy would get it, and what the guard found."""
    if case.direction == "output":
        text, report = guard.clean_text(case.text)
    else:
        body = {"messages": [{"role": "user", "content": case.text}]}
        report = guard.clean_request(body, "chat")
        text = str(body["messages"][0]["content"])
    counts: dict[str, int] = {}
    for (entity, _), count in report.counts.items():
        counts[entity] = counts.get(entity, 0) + count
    return text, counts


class _CaseJudges:
    """Classifiers here, judges through a gateway; what could not be asked is remembered."""

    def __init__(self, model: str, classifiers: ClassifierPool, judge: Judge | None) -> None:
        self._model = model
        self._classifiers = classifiers
        self._judge = judge
        self.failures: list[str] = []

    async def score(self, check: ClassifierCheck, text: str) -> float:
        if check.name not in self._classifiers.names:
            raise self._failed(f"there is no classifier {check.name!r}")
        answer = await self._classifiers.scores(text, [check.name], _TIMEOUT_S)
        if check.category not in answer.scores:
            raise self._failed(f"the classifier {check.name!r} gave no {check.category!r}")
        return answer.scores[check.category]

    @asynccontextmanager
    async def judge(self, principle: Principle, check: JudgeCheck, text: str) -> AsyncIterator[Ask]:
        yield lambda: self._asked(principle, check, text)

    async def _asked(self, principle: Principle, check: JudgeCheck, text: str) -> bool:
        if self._judge is None:
            raise self._failed("needs a judge: give --gateway-url and a key")
        body = {
            "model": check.model or self._model,
            "messages": judge_messages(principle.principle, check.question, text),
            "temperature": 0,
            "max_tokens": 8,
            "structured_outputs": {"choice": ANSWERS},
        }
        try:
            said = read_answer(await asyncio.to_thread(_ask_gateway, self._judge, body))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = str(error.reason) if isinstance(error, urllib.error.URLError) else type(error).__name__
            raise self._failed(f"the gateway gave no judgement: {reason}") from None
        if said is None:
            raise self._failed("the judge said neither yes nor no")
        return said

    def _failed(self, why: str) -> CheckFailed:
        self.failures.append(why)
        return CheckFailed(why)


def _ask_gateway(judge: Judge, body: Mapping[str, object]) -> str:
    if not judge.gateway_url.startswith(("http://", "https://")):
        raise ValueError("not a web address")
    request = urllib.request.Request(  # noqa: S310 - checked above
        f"{judge.gateway_url.rstrip('/')}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {judge.key}"},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
        answer = json.load(response)
    return str(answer["choices"][0]["message"]["content"])
