from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from training.errors import RecipeError, SourceError
from training.tokenizer.bpe import train_bpe
from training.tokenizer.extension import with_merges, with_tokens
from training.tokenizer.saving import library_tokenizer, train_unigram

OLD = "The lender shall lend. The borrower shall borrow what the lender lends."
NEW = "The indemnitor indemnifies the indemnitee; the indemnitee is indemnified."


@pytest.fixture
def base() -> Tokenizer:
    """Two of whose tokens stand behind the vocabulary of the model, as in Llama 3."""
    tokenizer = library_tokenizer(train_bpe([OLD] * 3, 300, ["<|endoftext|>"]))
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens(["HER2"])
    return tokenizer


def test_merges_are_learned_where_the_tokenizers_training_stopped(base: Tokenizer) -> None:
    before = base.get_vocab()

    extension = with_merges(base, [NEW], 12)

    after = extension.tokenizer
    size = base.get_vocab_size()
    assert after.get_vocab_size() == size + 12
    assert sorted(extension.pieces) == list(range(size, size + 12))
    assert {token: after.token_to_id(token) for token in before} == before
    assert len(after.encode(NEW).ids) < len(base.encode(NEW).ids)
    assert after.decode(after.encode(NEW).ids) == NEW
    assert after.encode(f"{OLD}<|end|>HER2").ids == base.encode(f"{OLD}<|end|>HER2").ids
    assert [token.content for token in after.get_added_tokens_decoder().values() if token.special] == [
        "<|endoftext|>",
        "<|end|>",
    ]


def test_pieces_are_what_the_base_makes_of_a_token(base: Tokenizer) -> None:
    extension = with_merges(base, [NEW], 12)

    for index, pieces in extension.pieces.items():
        assert base.decode(list(pieces)) == extension.tokenizer.decode([index])
        assert max(pieces) < base.get_vocab_size()


def test_a_token_that_is_there_already_is_not_made_in_another_way() -> None:
    # "abc" is "ab" + "c" here; in the new text "bc" is more frequent, and "a" + "bc" would be another way to it.
    base = library_tokenizer(train_bpe(["abc abc abc ab"], 259, []))
    extension = with_merges(base, ["xbc xbc xbc abc"], 5)

    assert extension.tokenizer.encode("abc ab").ids == base.encode("abc ab").ids


def test_words_become_tokens(base: Tokenizer) -> None:
    extension = with_tokens(base, [" indemnitee", "BRCA1", " the", " indemnitee"])

    after = extension.tokenizer
    assert [after.id_to_token(index) for index in extension.pieces] == [" indemnitee", "BRCA1"]
    assert after.encode("the indemnitee").ids[-1] == after.token_to_id(" indemnitee")
    assert after.decode(after.encode("the indemnitee has BRCA1.").ids) == "the indemnitee has BRCA1."
    assert after.encode(OLD).ids == base.encode(OLD).ids
    assert extension.pieces[after.token_to_id("BRCA1")] == base.encode("BRCA1").ids


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([" "], "is empty"),
        (["a<|end|>b"], "holds a control token"),
        ([" the", "HER2"], "all are tokens of the base already"),
    ],
)
def test_words_that_cannot_be_tokens(base: Tokenizer, words: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        with_tokens(base, words)


def test_what_the_library_would_decode_otherwise_is_refused(base: Tokenizer) -> None:
    """It takes the letters of an added token for spelled bytes where each of them could be one."""
    with pytest.raises(SourceError, match="'ünï'"):
        with_tokens(base, ["ünï"])

    assert with_tokens(base, [" ünï"]).pieces


def test_only_byte_level_bpe_takes_merges(base: Tokenizer) -> None:
    with pytest.raises(SourceError, match="not byte-level BPE"):
        with_merges(train_unigram([OLD] * 20, 300, []), [NEW], 5)
    with pytest.raises(RecipeError, match="nothing left to merge"):
        with_merges(base, ["x"], 5)
