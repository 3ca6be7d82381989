"""Details of tokens in whole answers."""

from __future__ import annotations

import json

import pytest

from serving.gateway.context import RequestContext
from serving.gateway.endpoints import CHAT, COMPLETIONS
from serving.gateway.records import Question
from serving.gateway.streams.answer import clean_answer
from tests.serving.gateway.streams.detailed import GUARD, VALUES, cut, details_of, whole
from tests.serving.gateway.streams.leaks import leaked


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("written", ["plain", "raw", "ids"])
def test_whole_answers_hold_too(value: str, written: str) -> None:
    tokens = cut(f"Mail {value} now", [4])
    details = {
        "logprobs": details_of(tokens, [[] for _ in tokens], written, "chat"),
        "token_ids": [ord(c) for c in "".join(tokens)],
    }
    for text in (f"Mail {value} now", "Mail "):
        context = RequestContext(
            CHAT, {}, b"", question=Question(body={"logprobs": True, "return_token_ids": True, "stop": ["x"]})
        )
        cleaned = json.loads(clean_answer(context, GUARD, whole(text, **details)).body)
        if text != "Mail " or written == "plain":
            assert not leaked([cleaned], VALUES)


def test_a_clean_whole_answer_keeps_its_bytes() -> None:
    details = {"logprobs": details_of(["Hello", " you"], [["a"], ["b"]], "plain", "chat"), "token_ids": [1, 2]}
    context = RequestContext(CHAT, {}, b"", question=Question(body={"logprobs": True, "return_token_ids": True}))
    body = whole("Hello you", **details)

    assert clean_answer(context, GUARD, body).body == body


def test_details_of_the_prompt_are_for_those_who_asked_and_wrote_it() -> None:
    tokens = cut(f"system: {VALUES[0]}", [5])
    prompt = [None, *({str(i): {"logprob": -1.0, "rank": 1, "decoded_token": t}} for i, t in enumerate(tokens))]
    clean = [None, {"7": {"logprob": -1.0, "rank": 1, "decoded_token": "Hello"}}]
    for asked, told, shown in ((1, prompt, None), (1, clean, clean), (None, clean, None)):
        context = RequestContext(COMPLETIONS, {}, b"", question=Question(body={"prompt_logprobs": asked}))
        body = json.dumps(
            {"choices": [{"index": 0, "text": "x", "finish_reason": "stop", "prompt_logprobs": told}]}
        ).encode()
        answer = json.loads(clean_answer(context, GUARD, body).body)
        assert answer["choices"][0]["prompt_logprobs"] == shown
    context = RequestContext(
        CHAT, {}, b"", question=Question(body={"return_token_ids": True}, asked_model="prompt:support@1")
    )
    body = json.dumps({"prompt_token_ids": [1, 2, 3], **json.loads(whole("x"))}).encode()
    assert json.loads(clean_answer(context, GUARD, body).body)["prompt_token_ids"] is None
