from __future__ import annotations

from pathlib import Path

import pytest

from training.data import corpus
from training.data.corpus import Characters, make_corpus, require_blocks
from training.errors import DataError

LINES = "".join(f"line {number}\n" for number in range(40))


@pytest.mark.parametrize("size", [7, 8, 50, 10_000])
def test_pieces_are_put_together_again(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PIECE_CHARACTERS", size)
    monkeypatch.setattr(corpus, "ENCODED_AT_ONCE", 3)
    documents = [LINES, "one", LINES + "no line end here, é", "two"]
    vocabulary = Characters([LINES])
    seen = []

    made = make_corpus(vocabulary, documents, lambda done, total: seen.append((done, total)))

    text = "<|endoftext|>".join(documents)
    assert vocabulary.encoder.decode(made.tokens_T.tolist(), skip_special_tokens=False) == text
    assert made.num_bytes == len("".join(documents).encode()) - 1
    assert made.tokens_T.tolist().count(0) == 3
    assert seen[-1] == (len("".join(documents)), len("".join(documents)))


def test_text_that_looks_like_a_control_token_is_text() -> None:
    made = make_corpus(Characters(["<|endoftext|>"]), ["a <|endoftext|>"])

    assert 0 not in made.tokens_T.tolist()


def test_no_text_is_too_little_and_not_a_fault() -> None:
    with pytest.raises(DataError, match="too little text to hold out: 0 tokens"):
        require_blocks(make_corpus(Characters(["a"]), []), 8, Path("a.txt"), "hold out")
