"""What a client may put into `vllm_xargs`, and what it is told when it may not."""

from typing import Any

import pytest

from serving.engine.plugin.arguments import MarkArguments, mark_arguments

MARK = {"signet_mark": "gumbel", "signet_key": "k"}


@pytest.mark.parametrize("extra", [None, {}, {"other": 1}, {"kv_transfer_params": {"a": 1}}])
def test_no_argument_of_ours_means_no_mark(extra: dict[str, Any] | None) -> None:
    assert mark_arguments(extra) is None


def test_both_arguments_make_a_mark() -> None:
    wanted = mark_arguments({"signet_mark": "gumbel", "signet_key": "mk1-abc", "other": 1})

    assert wanted == MarkArguments("gumbel", "mk1-abc")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        pytest.param({"signet_mark": "purple", "signet_key": "k"}, "signet_mark must be one of gumbel", id="scheme"),
        pytest.param({"signet_mark": 1, "signet_key": "k"}, "signet_mark must be", id="scheme-number"),
        pytest.param({"signet_mark": ["gumbel"], "signet_key": "k"}, "signet_mark must be", id="scheme-list"),
        pytest.param({"signet_mark": None, "signet_key": "k"}, "signet_mark must be", id="scheme-none"),
        pytest.param({"signet_key": "k"}, "signet_mark must be", id="key-alone"),
        pytest.param({"signet_mark": "gumbel"}, "needs signet_key", id="no-key"),
        pytest.param({"signet_mark": "gumbel", "signet_key": 7}, "needs signet_key", id="key-number"),
        pytest.param({"signet_mark": "gumbel", "signet_key": ["k"]}, "needs signet_key", id="key-list"),
        pytest.param({"signet_mark": "gumbel", "signet_key": "k", "signet_ky": "k"}, "signet_ky", id="typo"),
        pytest.param({**MARK, "signet_answer_start": -1}, "signet_answer_start", id="start-negative"),
        pytest.param({**MARK, "signet_answer_start": "3"}, "signet_answer_start", id="start-text"),
        pytest.param({**MARK, "signet_answer_start": 2.5}, "signet_answer_start", id="start-fraction"),
        pytest.param({"signet_answer_start": 3}, "signet_mark must be", id="start-alone"),
    ],
)
def test_anything_else_is_refused_by_name(extra: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        mark_arguments(extra)


def test_where_the_answer_began_is_taken_along() -> None:
    assert mark_arguments({**MARK, "signet_answer_start": 12}) == MarkArguments("gumbel", "k", 12)
