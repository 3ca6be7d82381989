from __future__ import annotations

from typing import Any

import pytest

from serving.gateway.endpoints.embeddings import EMBEDDINGS
from serving.gateway.endpoints.endpoint import Usage
from serving.gateway.errors import BadRequest
from serving.gateway.settings import GatewaySettings


@pytest.mark.parametrize("given", ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]], None])
def test_as_many_texts_as_are_allowed_pass(given: Any) -> None:
    EMBEDDINGS.check({"input": given}, GatewaySettings(max_embedding_inputs=2))


@pytest.mark.parametrize("given", [["one", "two", "three"], [[1], [2], [3]]])
def test_more_are_refused(given: Any) -> None:
    with pytest.raises(BadRequest, match="3 texts; 2 is the most"):
        EMBEDDINGS.check({"input": given}, GatewaySettings(max_embedding_inputs=2))


def test_the_question_is_its_texts_or_messages() -> None:
    assert list(EMBEDDINGS.prompt_texts({"input": ["a", "bc"]})) == ["a", "bc"]
    assert list(EMBEDDINGS.prompt_texts({"messages": [{"role": "user", "content": "d"}]})) == ["d"]
    assert EMBEDDINGS.prompt_chars({"input": [1, 2]}) == 0


@pytest.mark.parametrize(
    ("answer", "usage"),
    [({"usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage(7, 0)), ({"usage": {}}, Usage(None, 0)), ({}, None)],
)
def test_only_the_question_costs_tokens(answer: dict[str, Any], usage: Usage | None) -> None:
    assert EMBEDDINGS.usage(answer) == usage
