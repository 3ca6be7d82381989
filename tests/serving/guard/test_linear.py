"""Cleaning takes time that is linear in what is cleaned, whatever shape that has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from loadtests.tools.hostile_bodies import bodies, texts
from serving.guard import Guard, GuardRefusal, GuardSettings
from tests.support.growth import assert_linear

SIZE = 900
GROWTH = 6.0
PIECE = 61
"""Much longer than a token, to save time: what is held back is looked at anew with each piece."""
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
    assert_linear(asking(QUESTIONS, name), SIZE, limit=GROWTH)


@pytest.mark.parametrize("name", [name for name in BODIES if "addresses" in name or "systems" in name])
def test_a_question_that_is_remembered_takes_linear_time(name: str) -> None:
    assert_linear(asking(REMEMBERING, name), SIZE, limit=GROWTH)


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
            for start in range(0, len(text), PIECE):
                stream.feed(text[start : start + PIECE])
            stream.finish()

        return work

    assert_linear(whole, SIZE, limit=GROWTH)
    assert_linear(streamed, SIZE, limit=GROWTH)
