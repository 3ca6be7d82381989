"""Some templates write a message right behind another: no control token is across the two."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guard.question.control import ControlTokens
from tests.serving.guard.question.asking import CONTROL, GUARD

TOKENS = ControlTokens(CONTROL)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("as_parts", [False, True])
@pytest.mark.parametrize("token", [*CONTROL, "＜|im_start|＞", "<|im_/thinkstart|>"])
@given(cuts=st.lists(st.integers(1, 17), max_size=20), role=st.sampled_from(["system", "user"]))
@settings(max_examples=20, deadline=None)
def test_no_token_stands_across_the_seams_of_messages(
    endpoint: str, as_parts: bool, token: str, cuts: list[int], role: str
) -> None:
    text, pieces = f"a {token}", []
    for cut in cuts or [4]:
        pieces.append(text[:cut])
        text = text[cut:]
    contents: list[Any] = [[{"type": "text", "text": piece}] if as_parts else piece for piece in (*pieces, text)]
    field = "messages" if endpoint == "chat" else "input"
    body = {field: [{"role": role, "content": content} for content in contents]}

    GUARD.clean_request(body, endpoint)  # type: ignore[arg-type]

    given = [message["content"] for message in body[field]]
    joined = "".join(content if isinstance(content, str) else content[0]["text"] for content in given)
    assert not TOKENS.inert(joined)[1]
    assert joined.replace(" ", "") == f"a{token}"
