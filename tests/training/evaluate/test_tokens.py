from __future__ import annotations

import base64
from pathlib import Path

import pytest

from training.errors import SourceError
from training.evaluate import tokens
from training.evaluate.tokens import count_tokens, open_tokenizer
from training.tokenizer.bpe import bytes_of, train_bpe
from training.tokenizer.saving import library_tokenizer, save_tokenizer

TEXT = "The lender shall lend; the lender's loan. Déjà vu <|endoftext|>"


def test_bytes_and_tokens_are_counted(tmp_path: Path) -> None:
    ours = train_bpe([TEXT], 290, ["<|endoftext|>"])
    save_tokenizer(library_tokenizer(ours), tmp_path)

    count = count_tokens(open_tokenizer(tmp_path), [TEXT, "é"])

    expected = len(ours.encode_ordinary(TEXT)) + len(ours.encode_ordinary("é"))
    assert (count.bytes, count.tokens) == (len(TEXT.encode()) + 2, expected)
    assert count.figures()["bytes_per_token"] == count.bytes / expected
    assert count.vocab_size == 290


def test_a_file_of_ranks_is_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = train_bpe([TEXT], 280)
    path = tmp_path / "ours.tiktoken"
    lines = (f"{base64.b64encode(bytes_of(token)).decode()} {rank}" for token, rank in ours.vocabulary.items())
    path.write_text("\n".join(lines))
    monkeypatch.setitem(tokens._PATTERNS, len(ours.vocabulary), tokens._GPT2)

    assert open_tokenizer(path).encode(TEXT).ids == ours.encode(TEXT)
    assert open_tokenizer(path).decode(ours.encode(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("hello\n", "is not a file of ranks"),
        ("//// x\n", "is not a file of ranks"),
        ("YQ== 0\n", "has 1 ranks; supported are"),
    ],
)
def test_files_that_are_no_ranks(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "ranks").write_text(content)

    with pytest.raises(SourceError, match=why):
        open_tokenizer(tmp_path / "ranks")
    with pytest.raises(SourceError, match="no usable tokenizer"):
        open_tokenizer(tmp_path)
