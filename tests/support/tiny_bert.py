"""A random sentence encoder of BERT's kind, as such models are published, small enough to be made in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tiny_bert(folder: Path, **changes: Any) -> Path:
    """Two layers, 32 wide; letters and a few words as its vocabulary. `changes` are of the model's configuration."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(97, 123)]
    pieces = [*_SPECIAL, "the", "ship", "harbour", "'", ".", *letters, "##ing", *(f"##{letter}" for letter in letters)]
    raw = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(pieces),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "initializer_range": 0.3,
    }
    BertModel(BertConfig(**{**settings, **changes})).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Tiny encoder\nRandom.\n")
    return folder
