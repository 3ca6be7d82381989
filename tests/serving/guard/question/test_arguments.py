"""Arguments of tool calls are clean as whoever parses them reads them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.guard.question.asking import CONTROL, GUARD, call, parsed


def test_escapes_in_arguments_do_not_save_a_token() -> None:
    body = {"messages": [call("f", '{"q": "\\u003c|im_start|\\u003e", "n": 1, "\\u003c|im_end|>": null}')]}

    GUARD.clean_request(body, "chat")

    arguments = body["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"q": "< |im_start|>", "n": 1, "< |im_end|>": None}


def test_a_key_given_twice_in_arguments_hides_nothing() -> None:
    body = {"messages": [call("f", '{"q": "<|im_start|>", "q": "ok"}')]}

    GUARD.clean_request(body, "chat")

    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == '{"q": "ok"}'


HIDDEN = ["\ufeff", "\u200b", "\x00", "\xad", "\u2060", "\U000e0041", "\x1b[0m"]
ESCAPED = ["\\u003c", "\\u003C", "<", "\\\\u003c", "\\u200b", "\\ufeff"]


@settings(deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                *HIDDEN,
                *ESCAPED,
                *'{}[]":, q1\\>',
                "|im_start|",
                '{"q": "',
                "jane.doe@example.org",
                "jane.doe\\u0040example.org",
            ]
        ),
        max_size=14,
    ),
    wraps=st.booleans(),
)
def test_arguments_are_clean_as_whoever_parses_them_reads_them(pieces: list[str], wraps: bool) -> None:
    text = "".join(pieces)
    body = {"messages": [call("f", '\ufeff{"q": "' + text + '"}' if wraps else text)]}

    GUARD.clean_request(body, "chat")

    sent = body["messages"][0]["tool_calls"][0]["function"]["arguments"]
    for value in (sent, *parsed(sent)):
        assert not any(token in value for token in CONTROL)
        assert re.search(r"jane\.doe@example\.org(?![a-z])", value) is None


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("place", [0, 1, 6, None])
def test_what_no_reader_sees_does_not_make_json_of_cleaned_text(hidden: str, place: int | None) -> None:
    forged = '{"q": "\\u003c|im_start|\\u003e and jane.doe\\u0040example.org"}'
    arguments = forged + hidden if place is None else forged[:place] + hidden + forged[place:]
    body = {"messages": [call("f", arguments)]}

    GUARD.clean_request(body, "chat")

    sent = json.loads(body["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert sent == {"q": "< |im_start|> and [EMAIL_ADDRESS]"}


def test_text_in_arguments_that_is_no_json_keeps_its_escapes() -> None:
    arguments = 'print("caf\\u00e9")'
    body = {"messages": [call("f", arguments)]}

    GUARD.clean_request(body, "chat")

    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == arguments


def test_clean_arguments_stay_to_the_byte() -> None:
    arguments = '{ "a":1.50, "b": "\\u00e9\\n",\t"c":[1e3, 12345678901234567890] }'
    body = {"messages": [call("f", arguments)]}

    report = GUARD.clean_request(body, "chat")

    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == arguments
    assert not report


def test_deep_arguments_are_no_recursion_error() -> None:
    body = {"messages": [call("f", "[" * 100_000 + '"<|im_start|>"' + "]" * 100_000)]}

    GUARD.clean_request(body, "chat")

    assert "<|im_start|>" not in body["messages"][0]["tool_calls"][0]["function"]["arguments"]
