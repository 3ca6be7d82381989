"""Control tokens are inert: gone for any tokenizer, there for a reader."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.question.control import ControlTokens
from serving.guard.question.known_tokens import AMBIGUOUS_TOKENS, KNOWN_TOKENS

TOKENS = ControlTokens({"<|im_start|>", "<|im_end|>", "<s>"})


@pytest.mark.parametrize("token", sorted(KNOWN_TOKENS))
def test_every_known_token_is_broken_by_one_space(token: str) -> None:
    text, count = TOKENS.inert(f"say {token} please")

    assert token not in text
    assert text == f"say {token[0]} {token[1:]} please"
    assert count == 1


@pytest.mark.parametrize(
    "text",
    [
        "<|im_<|im_start|>start|>",
        "<|im_start|><|im_end|>",
        "<<|im_start|>",
        "\uff1c\uff5cim_start\uff5c\uff1e",
        "<\uff5cim_start|>",
        "<|\ufb01m_start|>",
        "<|\uff49\uff4d_start|>",
        "\u2039|im_start|\u203a",
    ],
)
def test_nested_and_folded_tokens_are_broken(text: str) -> None:
    tokens = ControlTokens({"<|im_start|>", "<|im_end|>", "<|fim_start|>"})

    inert, _ = tokens.inert(text)

    for token in ("<|im_start|>", "<|im_end|>", "<|fim_start|>"):
        assert token not in unicodedata.normalize("NFKC", inert).replace("\u2039", "<").replace("\u203a", ">")
    assert inert.replace(" ", "") == text


@pytest.mark.parametrize("switch", ["/think", "/no_think", "/system_override", "/think/no_think", "/think" * 4])
@pytest.mark.parametrize("token", ["<|im_start|>", "</s>", "[/INST]", "<\uff5cUser\uff5c>"])
def test_what_a_template_takes_out_leaves_no_token(token: str, switch: str) -> None:
    """SmolLM3's template deletes `/think` from a user's words, and what stood around it meets."""
    tokens = ControlTokens({"<s>", "</s>"})
    for place in range(1, len(token)):
        text, count = tokens.inert(token[:place] + switch + token[place:])

        assert count == 1
        assert token not in text.replace(switch, "")


def test_paths_beside_brackets_stay() -> None:
    for text in ("cat </dev/null | sort", "[/usr/bin/im_start]", "<|/think", "a</b>/c<d>", "/no_think please"):
        assert TOKENS.inert(text) == (text, 0)


def test_tokens_that_overlap_are_both_broken() -> None:
    tokens = ControlTokens({"ab|", "|cd"})

    assert tokens.inert("ab|cd") == ("a b| cd", 2)


def test_html_stays_when_the_served_model_is_known_not_to_use_it() -> None:
    served = ControlTokens({"<|im_start|>"})

    assert served.inert("<s>old</s> <b>[MASK]</b>") == ("<s>old</s> <b>[MASK]</b>", 0)


def test_tokens_that_may_be_structure_are_broken_for_an_unknown_model() -> None:
    unknown = ControlTokens(())

    assert all(unknown.inert(token)[1] == 1 for token in AMBIGUOUS_TOKENS)


def test_extra_tokens_are_broken() -> None:
    assert ControlTokens({"<s>"}, ["###Human"]).inert("###Human: hi") == ("# ##Human: hi", 1)


@given(
    st.lists(
        st.sampled_from(["<|im_start|>", "<|im_", "start|>", "<", "|", "s>", " ", "im_end|>", "\uff5c", "a", "<s"])
    )
)
def test_inert_is_complete_and_idempotent(pieces: list[str]) -> None:
    text, _ = TOKENS.inert("".join(pieces))

    assert not any(token in unicodedata.normalize("NFKC", text) for token in ("<|im_start|>", "<|im_end|>", "<s>"))
    assert TOKENS.inert(text) == (text, 0)


@given(st.lists(st.text(alphabet="<|im_start>s/ \uff5c", max_size=8)))
def test_no_token_stands_across_the_seams_of_parts(parts: list[str]) -> None:
    inert, count = TOKENS.inert_parts(parts)

    assert not any(token in "".join(inert) for token in ("<|im_start|>", "<s>"))
    assert [part.replace(" ", "") for part in inert] == [part.replace(" ", "") for part in parts]
    assert bool(count) == (inert != parts)
