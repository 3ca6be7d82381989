from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.tokenizer.characters import END_OF_TEXT, characters_tokenizer, save_characters

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\tÀ bientôt!"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_string_survives_the_round_trip(text: str) -> None:
    tokenizer = characters_tokenizer([TEXT])
    tokenizer.encode_special_tokens = True

    ids = tokenizer.encode(text, add_special_tokens=False).ids

    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_character_is_a_token_and_what_is_new_its_bytes() -> None:
    tokenizer = characters_tokenizer([TEXT, "z"])

    known = tokenizer.encode(TEXT, add_special_tokens=False).tokens
    new = tokenizer.encode("é🎉", add_special_tokens=False).tokens

    assert known == list(TEXT)
    assert new == ["<0xC3>", "<0xA9>", "<0xF0>", "<0x9F>", "<0x8E>", "<0x89>"]
    assert tokenizer.get_vocab_size() == 1 + 256 + len(set(TEXT + "z"))
    assert tokenizer.token_to_id(END_OF_TEXT) == 0


@pytest.mark.parametrize("text", [TEXT, " two  spaces , and ' marks .", "new: é🎉\r\n", ""])
def test_transformers_loads_it_with_the_same_tokens(text: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    ours = characters_tokenizer([TEXT])
    save_characters(ours, tmp_path)

    theirs: Any = AutoTokenizer.from_pretrained(tmp_path)

    assert theirs.is_fast
    assert theirs(text)["input_ids"] == ours.encode(text).ids
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert (theirs.eos_token_id, len(theirs)) == (0, ours.get_vocab_size())
