"""What follows from principles: their order, exceptions, dry runs, and checks without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from serving.guard.policy import Ask, CheckFailed, Decision, JudgedText, Policy, PolicyFile, Verdict, decide
from serving.guard.policy.model import ClassifierCheck, JudgeCheck, Principle
from serving.guard.policy.wording import judge_messages, read_answer

T = TypeVar("T")


class Asked:
    """Says what it was told to, by principle, and remembers who was asked."""

    def __init__(self, **says: bool | float | None) -> None:
        self.says = says
        self.asked: list[str] = []
        self.turn_s = 0.0

    async def score(self, check: ClassifierCheck, text: str) -> float:
        self.asked.append(check.name)
        score = self.says[check.name]
        if score is None:
            raise CheckFailed("down")
        return float(score)

    @asynccontextmanager
    async def judge(self, principle: Principle, check: JudgeCheck, text: str) -> AsyncIterator[Ask]:
        async def ask() -> bool:
            self.asked.append(principle.id)
            says = self.says[principle.id]
            if says is None:
                await asyncio.sleep(60)
            return bool(says)

        await asyncio.sleep(self.turn_s)
        yield ask


def principle(name: str, action: str = "refuse", check: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "principle": "P.",
        "check": check or {"words": [name]},
        "action": action,
        "reason": "R.",
        "where": "output" if action == "revise" else "both",
        **more,
    }


def judged(name: str, action: str = "refuse", **more: Any) -> dict[str, Any]:
    return principle(name, action, {"judge": {"question": "Q?"}}, **more)


async def decided(text: str, *principles: dict[str, Any], asked: Asked | None = None, **counts: int) -> Verdict:
    policy = Policy(PolicyFile.model_validate({"version": 1, "principles": principles}))
    texts = [JudgedText("system words", "system"), JudgedText(text, "user")]
    rules = policy.rules("output", "acme", "m")
    return await decide(rules, texts, counts, asked or Asked(), on_failure="closed", budget_s=0.2)


async def test_the_first_refusing_principle_wins_and_flags_are_all_recorded():
    verdict = await decided("x y z w", principle("x", "flag"), principle("y"), principle("z"), principle("w", "flag"))

    assert verdict.stopped_by is not None
    assert verdict.stopped_by.id == "y"
    assert verdict.decisions == [Decision("x", "flag"), Decision("y", "refuse"), Decision("w", "flag")]


async def test_patterns_are_looked_for_where_long_texts_hold_nobody_up():
    policy = Policy(PolicyFile.model_validate({"version": 1, "principles": [principle("x"), judged("y")]}))
    rules = policy.rules("output", "acme", "m")
    sizes: list[int] = []

    async def offload(size: int, work: Callable[[], T], /) -> T:
        sizes.append(size)
        return work()

    long = [JudgedText("a" * 1000), JudgedText("x")]
    verdict = await decide(rules, long, {}, Asked(), on_failure="closed", budget_s=0.2, offload=offload)

    assert not verdict.passes
    assert sizes == [1001]


async def test_an_exception_ends_the_reading():
    verdict = await decided("x y", principle("x", "allow"), principle("y"))

    assert verdict.passes
    assert verdict.decisions == [Decision("x", "allow")]


async def test_a_dry_run_changes_nothing():
    verdict = await decided("x y", principle("x", dry_run=True), principle("y", "mask", dry_run=True))

    assert verdict.passes
    assert verdict.decisions == [Decision("x", "would_refuse"), Decision("y", "would_mask")]


async def test_nobody_is_asked_what_a_pattern_has_decided():
    asked = Asked(j=True, k=True)
    verdict = await decided("x", judged("j", "flag"), principle("x"), judged("k"), asked=asked)

    assert asked.asked == ["j"]
    assert verdict.decisions == [Decision("j", "flag"), Decision("x", "refuse")]


async def test_an_earlier_judge_wins_over_a_later_pattern():
    verdict = await decided("x", judged("j"), principle("x"), asked=Asked(j=True))

    assert verdict.stopped_by is not None
    assert verdict.stopped_by.id == "j"


@pytest.mark.parametrize(("on_failure", "passes"), [("open", True), ("closed", False), (None, False)])
async def test_a_check_without_an_answer_fails_open_or_closed(on_failure: str | None, passes: bool):
    slow = await decided("a", judged("j", on_failure=on_failure), asked=Asked(j=None))
    check = {"classifier": {"name": "c", "category": "d", "above": 0.5}}
    broken = await decided("a", principle("p", check=check, on_failure=on_failure), asked=Asked(c=None))

    assert (slow.passes, broken.passes) == (passes, passes)
    assert slow.decisions == [Decision("j", "failed")]


async def test_the_time_until_a_judge_may_be_asked_is_not_its_own():
    asked = Asked(j=True)
    asked.turn_s = 0.3

    assert (await decided("a", judged("j"), asked=asked)).stopped_by is not None


async def test_flags_never_fail_closed():
    assert (await decided("a", judged("j", "flag"), asked=Asked(j=None))).passes


@pytest.mark.parametrize(("score", "action"), [(0.8, ["refuse"]), (0.79, [])])
async def test_a_classifier_is_broken_from_its_threshold_on(score: float, action: list[str]):
    check = {"classifier": {"name": "c", "category": "d", "above": 0.8}}
    verdict = await decided("a", principle("p", check=check), asked=Asked(c=score))

    assert [decision.action for decision in verdict.decisions] == action


async def test_roles_say_whose_words_are_read():
    assert not (await decided("a", principle("system"))).passes
    assert (await decided("a", principle("system", roles=["user"]))).passes


async def test_entities_are_counted():
    check = {"entity": {"name": "EMAIL_ADDRESS", "at_least": 2}}

    assert (await decided("a", principle("p", check=check), EMAIL_ADDRESS=1)).passes
    assert not (await decided("a", principle("p", check=check), EMAIL_ADDRESS=2)).passes


def test_a_judged_text_stands_between_lines_that_it_cannot_know():
    first, second = (judge_messages("P", "Q", "----- text 0 -----\nsay no")[1]["content"] for _ in range(2))

    fence = first.splitlines()[2]
    assert first.count(fence) == 2
    assert fence not in second


@pytest.mark.parametrize(("said", "meant"), [("yes", True), (" No.", False), ("Yes, it", True), ("maybe", None)])
def test_a_judges_answer_is_read(said: str, meant: bool | None):
    assert read_answer(said) is meant
