"""Cleaning takes time that is linear in what is cleaned, whatever shape that has."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from loadtests.hostile_bodies import bodies, texts
from serving.guard import Guard, GuardRefusal, GuardSettings

SIZE = 900
GROWTH = 6.0
"""Most that four times the size may take; quadratic time would be sixteen."""
UNMEASURABLE_S = 0.01
ALL = dict.fromkeys(type(GuardSettings().input).model_fields, "mask")
UNBOUNDED = {"max_values": 10**8, "max_text_chars": 10**8}
ANSWERS = Guard(GuardSettings(output={name: action for name, action in ALL.items() if name != "person"}))
QUESTIONS = Guard(GuardSettings(**UNBOUNDED))
REMEMBERING = Guard(
    GuardSettings(
        **UNBOUNDED,
        input={"email_address": "pseudonymize", "phone_number": "pseudonymize"},
        output={"email_address": "mask_new", "card_number": "mask_new"},
        system_prompt={"canary": True, "max_words": 8},
    )
)
BODIES = dict(bodies())


def seconds(work: Callable[[], object]) -> float:
    """CPU time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def assert_linear(work_of: Callable[[int], Callable[[], object]]) -> None:
    ratio = 0.0
    for _ in range(3):
        small, large = seconds(work_of(SIZE)), seconds(work_of(4 * SIZE))
        ratio = large / max(small, 1e-9)
        if large < UNMEASURABLE_S or ratio < GROWTH:
            return
    raise AssertionError(f"{ratio:.1f} times as long for four times the size")


def asking(guard: Guard, name: str) -> Callable[[int], Callable[[], object]]:
    def work_of(size: int) -> Callable[[], object]:
        body = BODIES[name].body(size)

        def work() -> None:
            with suppress(GuardRefusal):
                guard.ask(body, BODIES[name].endpoint)  # type: ignore[arg-type]

        return work

    return work_of


@pytest.mark.parametrize("name", BODIES)
def test_a_question_takes_linear_time(name: str) -> None:
    assert_linear(asking(QUESTIONS, name))


@pytest.mark.parametrize("name", [name for name in BODIES if "addresses" in name or "systems" in name])
def test_a_question_that_is_remembered_takes_linear_time(name: str) -> None:
    assert_linear(asking(REMEMBERING, name))


@pytest.mark.parametrize("name", dict(texts(100)))
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_an_answer_takes_linear_time(name: str, json: bool) -> None:
    def whole(size: int) -> Callable[[], object]:
        text = dict(texts(size))[name]
        return lambda: ANSWERS.clean_text(text, json=json)

    def streamed(size: int) -> Callable[[], object]:
        text = dict(texts(size))[name]

        def work() -> None:
            stream = ANSWERS.stream(json=json)
            for start in range(0, len(text), 7):
                stream.feed(text[start : start + 7])
            stream.finish()

        return work

    assert_linear(whole)
    assert_linear(streamed)
