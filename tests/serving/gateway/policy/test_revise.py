"""Answers written again, by a model that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from serving.gateway.endpoints.texts import AnswerText
from serving.gateway.policy.review import Review
from serving.gateway.policy.revise import revise
from serving.guard import Guard, GuardSettings
from serving.guard.policy import CheckFailed, Policy, Principle
from serving.guard.policy.model import PolicyFile

T = TypeVar("T")

RUDE = AnswerText(0, "content", "You idiot.")


class Model:
    """Writes these revisions, one after the other."""

    def __init__(self, *revisions: str | Exception) -> None:
        self.revisions = list(revisions)
        self.asked: list[tuple[str, str, int]] = []

    async def write(self, kind: str, messages: Any, length: int) -> str:
        self.asked.append((kind, str(messages), length))
        if kind == "critique":
            return "It is unkind."
        revision = self.revisions.pop(0)
        if isinstance(revision, Exception):
            raise revision
        if revision == "never":
            await asyncio.Event().wait()
        return revision

    async def offload(self, size: int, function: Callable[[], T]) -> T:
        return function()


def policy(**more: Any) -> Policy:
    kind = {
        "id": "kind",
        "principle": "Answers are kind.",
        "where": "output",
        "check": {"words": ["idiot"]},
        "action": "revise",
        "reason": "No kind answer was found.",
    }
    calm = {**kind, "id": "calm", "check": {"words": ["weapon"]}, "action": "refuse"}
    return Policy(PolicyFile(version=1, principles=[kind, calm], **more))


async def revised(model: Model, *own: AnswerText, **more: Any) -> tuple[str | None, Principle, Review]:
    rules = policy(**more)
    judge: Any = model
    review = Review(rules, rules.rules("input", "acme", "m"), rules.rules("output", "acme", "m"), judge)
    _, answers = Guard(GuardSettings()).ask({"messages": []}, "chat")
    text, broken = await revise(review, answers, rules.file.principles[0], own or (RUDE,))
    return text, broken, review


async def test_a_text_that_keeps_all_principles_is_the_answer() -> None:
    model = Model(" You are mistaken. ")

    text, broken, review = await revised(model)

    assert (text, broken.id) == ("You are mistaken.", "kind")
    assert not review.decisions
    critique, revision = model.asked
    assert (critique[0], revision[0]) == ("critique", "revision")
    assert "You idiot." in critique[1]
    assert "It is unkind." in revision[1]


async def test_it_is_tried_as_often_as_the_file_says() -> None:
    model = Model("Still an idiot.", "You are mistaken.")

    text, _, review = await revised(model, revise_rounds=2)

    assert text == "You are mistaken."
    assert "Still an idiot." in model.asked[2][1]  # what the first round made is what the second begins with
    assert [decision.principle for decision, _ in review.decisions] == ["kind"]
    assert (await revised(Model("Still an idiot.", "unused"), revise_rounds=1))[0] is None


async def test_a_text_that_breaks_what_is_refused_is_not_tried_again() -> None:
    model = Model("Take a weapon.", "unused")

    text, broken, _ = await revised(model, revise_rounds=2)

    assert (text, broken.id) == (None, "calm")
    assert model.revisions == ["unused"]


@pytest.mark.parametrize(
    "revision", [CheckFailed("no engine"), "", "   ", "never"], ids=["fails", "empty", "blank", "late"]
)
async def test_what_cannot_be_revised_is_not_released(revision: str | Exception) -> None:
    text, broken, _ = await revised(Model(revision), revise_budget_ms=100)

    assert (text, broken.id) == (None, "kind")


@pytest.mark.parametrize("kind", ["arguments", "partial_json", "input"])
async def test_a_tool_call_is_not_written_again(kind: str) -> None:
    model = Model("unused")

    text, _, _ = await revised(model, RUDE, AnswerText(0, kind, "{}"))

    assert text is None
    assert model.asked == []


async def test_what_a_model_writes_is_cleaned() -> None:
    text, _, _ = await revised(Model("Write to anna@example.org."))

    assert text is not None
    assert "anna@" not in text


async def test_a_revision_may_be_somewhat_longer_than_the_answer() -> None:
    short, long = Model("Fine."), Model("Fine.")

    await revised(short)
    await revised(long, AnswerText(0, "content", "idiot " * 1000))

    assert short.asked[1][2] == 256
    assert long.asked[1][2] == 3000
