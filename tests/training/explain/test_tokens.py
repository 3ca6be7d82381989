from __future__ import annotations

from tokenizers import Tokenizer

from training.explain.tokens import explain_tokens, merges_table, pieces_table
from training.tokenizer.bpe import train_bpe
from training.tokenizer.characters import characters_tokenizer
from training.tokenizer.saving import library_tokenizer, train_wordpiece

TEXT = "the lender lends the borrower what the lender lends"


def tokenizer() -> Tokenizer:
    return library_tokenizer(train_bpe([TEXT], 275, ["<|end|>"]))


def test_pieces_have_ids_texts_and_bytes() -> None:
    explained = explain_tokens(tokenizer(), "the é<|end|>")

    assert [piece.text for piece in explained.pieces] == ["the", " ", "é", "é", "<|end|>"]
    assert b"".join(piece.content for piece in explained.pieces) == "the é<|end|>".encode()
    assert [piece.is_special for piece in explained.pieces] == [False] * 4 + [True]
    assert [piece.id for piece in explained.pieces] == tokenizer().encode("the é<|end|>").ids


def test_merges_come_in_their_order() -> None:
    explained = explain_tokens(tokenizer(), "the lender, the lender")

    assert explained.words is not None
    assert [word.word for word in explained.words] == ["the", "Ġlender", "Ġthe"]
    made = [left + right for _, left, right in explained.words[0].merges]
    assert made[-1] == "the"
    ranks = [rank for rank, _, _ in explained.words[1].merges]
    assert ranks == sorted(ranks)
    assert explained.words[0].as_json()["word"] == "the"


def test_tokenizers_that_do_not_merge() -> None:
    wordpiece = train_wordpiece([TEXT] * 5, 60, ["[UNK]"])

    explained = explain_tokens(wordpiece, "lender")

    assert explained.words is None
    assert b"".join(piece.content for piece in explained.pieces) == b"lender"


def test_a_byte_of_a_character_that_is_not_in_the_vocabulary() -> None:
    explained = explain_tokens(characters_tokenizer(["abc"]), "aé")

    assert [piece.content for piece in explained.pieces] == [b"a", b"\xc3", b"\xa9"]


def test_tables_show_no_control_characters() -> None:
    explained = explain_tokens(tokenizer(), "the\x1b[31m [b]")

    pieces = [str(cell) for column in pieces_table(explained.pieces).columns for cell in column.cells]
    assert not any("\x1b" in cell for cell in pieces)
    assert "'['" in pieces
    assert explained.words is not None
    assert merges_table(explained.words[0]).row_count == len(explained.words[0].merges)


def test_an_empty_text_has_no_tokens() -> None:
    assert explain_tokens(tokenizer(), "").pieces == []
