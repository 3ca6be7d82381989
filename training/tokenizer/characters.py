"""A tokenizer of single characters, built from a text; it needs no training.

One token for each character of the text. What does not occur there is written in its UTF-8 bytes, each a token, so
that every string survives the round trip and none is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models

END_OF_TEXT = "<|endoftext|>"
"""Between documents, and the end of an answer."""


def characters_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token for the end of a text, 256 for bytes, and one for each character, in the order of their code points."""
    characters = sorted(set().union(*texts))
    tokens = [END_OF_TEXT, *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    # BPE without merges: characters stay apart, and bytes stand in for those that are not in the vocabulary.
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def save_characters(tokenizer: Tokenizer, folder: Path) -> None:
    """Write it as transformers, vLLM and `tokenizers` load it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,  # every space is the text's own
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
