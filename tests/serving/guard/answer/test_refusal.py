"""Refusals are told from answers by how they begin."""

from __future__ import annotations

import pytest

from serving.guard import looks_like_refusal


@pytest.mark.parametrize(
    "start",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with that request.",
        "I am sorry, I cannot do that.",
        "Sorry, I can't do that.",
        "I cannot provide instructions for making weapons.",
        "I can't assist with creating malware.",
        "I'm unable to help with this.",
        "I'm not able to write that for you.",
        "I won't help you with this.",
        "As an AI language model, I cannot give medical advice.",
        "As an AI, I don't have personal opinions.",
        "I must decline to answer this.",
        "I'm not comfortable writing this.",
        "Unfortunately, I am unable to comply with your request.",
        "That's not something I can help with.",
        "This request goes against my guidelines.",
        "\n\nI apologize, but I cannot fulfil that request.",
    ],
)
def test_refusals(start: str) -> None:
    assert looks_like_refusal(start)


@pytest.mark.parametrize(
    "start",
    [
        "",
        "Sure, here is how to do it.",
        "Here's a poem about a man who can't swim.",
        "I'm sorry to hear that you are ill. Drink a lot of water and rest.",
        "You cannot divide by zero, so the function raises an error.",
        "I can help with that. First, open the file.",
        "The knight said: unable to sleep, he rode on.",
        "An AI is a computer program that learns from data.",
        "Unfortunately, the train was late, and they missed the boat.",
    ],
)
def test_answers(start: str) -> None:
    assert not looks_like_refusal(start)


def test_only_the_beginning_counts() -> None:
    assert not looks_like_refusal("Here is the story. " * 30 + "I'm sorry, but I can't help with that.")
