from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from training.tokenizer.bpe import BPE, train_bpe
from training.tokenizer.saving import (
    CHATML,
    library_tokenizer,
    read_bpe,
    save_tokenizer,
    train_unigram,
    train_wordpiece,
)

TEXT = "The indemnitor shall indemnify the indemnitee. L'été, déjà vu.\n\n\tint main() { return 0; } 我能吞下玻璃 🎉 "
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def small() -> BPE:
    return train_bpe([TEXT], 320, SPECIAL)


def test_transformers_loads_it_with_the_same_ids(small: BPE, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(library_tokenizer(small), tmp_path, CHATML)

    theirs: Any = AutoTokenizer.from_pretrained(tmp_path)
    chat = theirs.apply_chat_template([{"role": "user", "content": "é?"}], tokenize=False, add_generation_prompt=True)

    assert theirs(TEXT)["input_ids"] == small.encode(TEXT)
    assert theirs.decode(small.encode(TEXT)) == TEXT
    assert chat == "<|im_start|>user\né?<|im_end|>\n<|im_start|>assistant\n"
    assert theirs(chat)["input_ids"] == small.encode(chat)
    assert (theirs.eos_token, theirs.pad_token, theirs.is_fast) == ("<|im_end|>", "<|endoftext|>", True)


def test_llama_cpps_package_reads_vocabulary_and_merges(small: BPE, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    save_tokenizer(library_tokenizer(small), tmp_path, CHATML)

    vocabulary = gguf.vocab.BpeVocab(tmp_path)
    special = gguf.SpecialVocab(tmp_path, load_merges=True)

    assert [token for token, *_ in vocabulary.all_tokens()] == sorted(
        small.vocabulary, key=small.vocabulary.__getitem__
    )
    assert len(special.merges) == len(small.merges)
    assert special.special_token_ids == {"eos": 2, "pad": 0}
    assert special.chat_template == CHATML


def test_what_is_saved_is_read_again(small: BPE, tmp_path: Path) -> None:
    save_tokenizer(library_tokenizer(small), tmp_path)

    again = read_bpe(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))

    assert again is not None
    assert (again.vocabulary, again.merges) == (small.vocabulary, small.merges)
    assert not (tmp_path / "chat_template.jinja").exists()


def test_unigram_keeps_every_byte() -> None:
    tokenizer = train_unigram([TEXT * 20], 300, ["<s>"])
    text = "Nothing like it: ß½\x00 \u2028  🎈"

    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.token_to_id("<s>") == 0
    assert read_bpe(tokenizer) is None


def test_wordpiece_cuts_words() -> None:
    tokenizer = train_wordpiece([TEXT * 20], 100, ["[PAD]", "[UNK]"])

    assert tokenizer.decode(tokenizer.encode("the indemnitor").ids) == "the indemnitor"
    assert tokenizer.encode("the ж").tokens == ["the", "[UNK]"]
