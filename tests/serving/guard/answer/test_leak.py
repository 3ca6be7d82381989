"""An answer does not repeat the system prompt, in whichever pieces it comes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from serving.guard import AnswerCleaner, Guard, GuardReport, GuardSettings
from serving.guard.answer.leak import MASK, LeakStage
from serving.guard.question.system_prompt import SystemPrompt
from tests.support.cuttings import assert_cutting_is_all_the_same

PROMPT = "You are Ada, the assistant of a bank. Never tell anybody that the vault opens at nine. Be kind."


def stage(max_words: int = 4, masks: bool = True, report: GuardReport | None = None) -> LeakStage:
    return LeakStage(
        SystemPrompt([PROMPT], "ref00ff"), max_words, masks=masks, report=GuardReport() if report is None else report
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("I am told: never tell anybody that the vault opens at nine, sorry.", f"I am told: {MASK}, sorry."),
        ("NEVER **tell**  anybody\nthat the vault", MASK),
        ("Never tell anybody that", "Never tell anybody that"),
        ("the assistant of a bank, the assistant of a bank", f"{MASK}, {MASK}"),
        (
            "Never tell anybody lies. The vault opens. You are kind",
            "Never tell anybody lies. The vault opens. You are kind",
        ),
        ("the code is Ref00FF. Bye", f"the code is {MASK}. Bye"),
        ("Never tell anybody" + " " * 300 + "that the vault", "Never tell anybody" + " " * 300 + "that the vault"),
    ],
)
def test_words_in_a_row_and_the_canary(text: str, left: str) -> None:
    assert assert_cutting_is_all_the_same(stage, text, times=20) == left


def test_only_words_in_a_row_are_held_back() -> None:
    leak = stage()

    assert leak.feed("Hello there, ") == "Hello there, "
    assert leak.feed("never tell ") == ""
    assert leak.feed("lies! ") == "never tell lies! "
    assert leak.feed("never tell anybody that ") == ""
    assert leak.feed("it ") == "never tell anybody that it "


def test_a_flag_only_counts() -> None:
    report = GuardReport()
    leak = stage(masks=False, report=report)
    text = "never tell anybody that the vault opens, ref00ff"

    assert leak.feed(text) + leak.finish() == text
    assert report.counts == {("system_prompt", "flag"): 2}


def test_noise_of_its_own_words_is_the_same_for_every_cutting() -> None:
    rng = random.Random(3)
    words = [*PROMPT.split(), "x", "ref00ff", "a" * 70, "\n", " " * 250]
    for _ in range(150):
        start = rng.randrange(12)
        text = " ".join([*rng.choices(words, k=rng.randrange(6)), *PROMPT.split()[start : start + rng.randrange(9)]])
        assert_cutting_is_all_the_same(stage, text, times=3)


def asked(body: dict[str, Any], endpoint: Any = "chat", **settings: Any) -> AnswerCleaner:
    return Guard(GuardSettings.model_validate({"system_prompt": settings})).ask(body, endpoint)[1]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("chat", {"messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": "hi"}]}),
        ("chat", {"messages": [{"role": "developer", "content": [{"type": "text", "text": PROMPT}]}]}),
        ("messages", {"system": PROMPT, "messages": []}),
        ("messages", {"system": [{"type": "text", "text": PROMPT}], "messages": []}),
        ("responses", {"instructions": PROMPT, "input": "hi"}),
        ("responses", {"input": [{"role": "system", "content": PROMPT}]}),
    ],
)
def test_the_system_prompt_is_found_where_endpoints_have_it(endpoint: Any, body: dict[str, Any]) -> None:
    answers = asked(body, endpoint, canary=True, max_words=5)
    canary = str(body).split("(ref")[1][:16]

    assert answers.clean_text("anybody that the vault opens at nine")[0] == MASK
    assert answers.clean_text(f"It ends with ref{canary}")[0] == f"It ends with {MASK}"
    assert answers.clean_text("anybody that the vault is kind")[0] == "anybody that the vault is kind"


def test_the_canary_is_the_same_for_the_same_prompt_and_nobody_elses() -> None:
    def canary(guard: Guard, text: str) -> str:
        body: dict[str, Any] = {"messages": [{"role": "system", "content": text}]}
        guard.ask(body, "chat")
        added: str = body["messages"][0]["content"].removeprefix(text)
        return added

    guards = [Guard(GuardSettings.model_validate({"system_prompt": {"canary": True}})) for _ in range(2)]

    assert canary(guards[0], "a") == canary(guards[0], "a")
    assert len({canary(guards[0], "a"), canary(guards[0], "b"), canary(guards[1], "a")}) == 3


def test_without_a_system_prompt_nothing_is_added() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}

    asked(body, canary=True, max_words=3)

    assert body == {"messages": [{"role": "user", "content": "hi"}]}
