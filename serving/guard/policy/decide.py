"""What a policy decides about one text. Texts go in, ids come out: nothing that is returned holds a text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from serving.guard.policy.model import ClassifierCheck, JudgeCheck, OnFailure, Principle
from serving.guard.policy.patterns import readable
from serving.guard.policy.policy import Rule, Rules

T = TypeVar("T")


class CheckFailed(Exception):
    """A classifier or a judge gave no answer; `str()` is a few words for the log."""


class Offload(Protocol):
    """Runs work on a text of `size` characters where it does not block the event loop."""

    async def __call__(self, size: int, work: Callable[[], T], /) -> T: ...


async def _at_once(size: int, work: Callable[[], T], /) -> T:
    return work()


Ask = Callable[[], Awaitable[bool]]
"""Asks whether a text breaks a principle. Raises CheckFailed."""


class Judges(Protocol):
    """Models that judge what no pattern can tell. Both methods raise CheckFailed."""

    async def score(self, check: ClassifierCheck, text: str) -> float:
        """A classifier's score of its category."""

    def judge(self, principle: Principle, check: JudgeCheck, text: str) -> AbstractAsyncContextManager[Ask]:
        """Wait until the judge may be asked about the text, and how to."""


class JudgedText(NamedTuple):
    """One text of a question or an answer, and whose it is."""

    text: str
    role: str = "assistant"


class Decision(NamedTuple):
    """What follows from one principle: an action, `would_` and the action in a dry run, or `failed`."""

    principle: str
    action: str


@dataclass(slots=True)
class Verdict:
    """All decisions about one text."""

    decisions: list[Decision] = field(default_factory=list)
    stopped_by: Principle | None = None
    """The first principle that lets the text not pass, by its action."""
    unchecked: Principle | None = None
    """The text may not pass since this principle, which fails closed, could not be checked."""

    @property
    def passes(self) -> bool:
        return self.stopped_by is None and self.unchecked is None


async def decide(
    rules: Rules,
    texts: Sequence[JudgedText],
    counts: Mapping[str, int],
    judges: Judges,
    *,
    on_failure: OnFailure,
    budget_s: float,
    offload: Offload = _at_once,
) -> Verdict:
    """Apply principles in their order. `counts`: values of each entity that the guard found.

    `budget_s` is what each check may take once it may begin: judges may have to wait for their turn.
    """
    by_role = _TextsByRole(texts)
    size = sum(len(text.text) for text in texts)
    looked = await offload(size, lambda: _look_at_all(rules, by_role, counts))
    answers = await _ask_all([rule for rule, holds in looked if holds is None], by_role, judges, budget_s)
    verdict = Verdict()
    for rule, holds in looked:
        principle = rule.principle
        if holds is None:
            holds = answers[principle.id]
        if not verdict.passes and rule.effective:
            continue
        if holds is None:
            verdict.decisions.append(Decision(principle.id, "failed"))
            if rule.effective and principle.action != "allow" and (principle.on_failure or on_failure) == "closed":
                verdict.unchecked = principle
        elif holds:
            action = f"would_{principle.action}" if principle.dry_run else principle.action
            verdict.decisions.append(Decision(principle.id, action))
            if rule.effective and principle.action == "allow":
                break
            if rule.effective:
                verdict.stopped_by = principle
    return verdict


def _look_at_all(rules: Rules, by_role: _TextsByRole, counts: Mapping[str, int]) -> list[tuple[Rule, bool | None]]:
    """What patterns and counts say of each principle; None: somebody has to be asked.

    Once a text is stopped, only what costs nothing and is merely recorded is looked at still.
    """
    looked: list[tuple[Rule, bool | None]] = []
    stopped = False
    for rule in rules.rules:
        if stopped and (rule.effective or rule.principle.check.needs_model):
            continue
        holds = _look(rule, by_role, counts)
        looked.append((rule, holds))
        if holds and rule.effective:
            if rule.principle.action == "allow":
                break
            stopped = True
    return looked


class _TextsByRole:
    """A question's or answer's texts, as those principles read them that are for some roles only."""

    def __init__(self, texts: Sequence[JudgedText]) -> None:
        self._texts = texts
        self._joined: dict[tuple[str, ...], str] = {}
        self._readable: dict[tuple[str, ...], str] = {}

    def of(self, roles: tuple[str, ...]) -> str:
        joined = self._joined.get(roles)
        if joined is None:
            joined = "\n".join(text.text for text in self._texts if not roles or text.role in roles)
            self._joined[roles] = joined
        return joined

    def readable(self, roles: tuple[str, ...]) -> str:
        """The same as patterns read it."""
        text = self._readable.get(roles)
        if text is None:
            text = self._readable[roles] = readable(self.of(roles))
        return text


def _look(rule: Rule, by_role: _TextsByRole, counts: Mapping[str, int]) -> bool | None:
    """Whether the text breaks a principle; None: somebody has to be asked."""
    check = rule.principle.check
    if rule.matches is not None:
        return rule.matches.search(by_role.readable(rule.principle.roles)) is not None
    if check.entity is not None:
        return counts.get(check.entity.name, 0) >= check.entity.at_least
    return None if by_role.of(rule.principle.roles).strip() else False


async def _ask_all(
    rules: Sequence[Rule], by_role: _TextsByRole, judges: Judges, budget_s: float
) -> dict[str, bool | None]:
    """All questions at once; None for those without an answer."""
    asked = [asyncio.create_task(_ask(rule.principle, by_role, judges, budget_s)) for rule in rules]
    try:
        await asyncio.gather(*asked, return_exceptions=True)
    finally:
        for task in asked:
            task.cancel()
    answers: dict[str, bool | None] = {}
    for rule, task in zip(rules, asked, strict=True):
        answers[rule.principle.id] = task.result() if not task.cancelled() and task.exception() is None else None
    return answers


async def _ask(principle: Principle, by_role: _TextsByRole, judges: Judges, budget_s: float) -> bool | None:
    check, text = principle.check, by_role.of(principle.roles)
    try:
        if check.classifier is not None:
            async with asyncio.timeout(budget_s):
                return await judges.score(check.classifier, text) >= check.classifier.above
        assert check.judge is not None
        async with judges.judge(principle, check.judge, text) as ask, asyncio.timeout(budget_s):
            return await ask()
    except (CheckFailed, TimeoutError):
        return None
