"""Tokenizers in files, as `tokenizers`, transformers and vLLM load them; and the kinds that the library trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from training.tokenizer.bpe import BPE

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")

# What a special token is for, by its name; of several the first in this order.
_ROLES = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>"),
    "eos_token": ("<|im_end|>", "</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>"),
    "unk_token": ("[UNK]", "<unk>"),
    "pad_token": ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}


def library_tokenizer(bpe: BPE) -> Tokenizer:
    """The same vocabulary and merges in `tokenizers`, which gives the same ids."""
    merges = [(bpe.tokens[left], bpe.tokens[right]) for left, right in bpe.merges]
    tokenizer = Tokenizer(models.BPE(bpe.vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in bpe.special_tokens])
    return tokenizer


def train_unigram(texts: Sequence[str], vocab_size: int, special_tokens: Sequence[str]) -> Tokenizer:
    """Pieces with probabilities (Kudo 2018), over bytes as in BPE, so that every string survives."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_wordpiece(texts: Sequence[str], vocab_size: int, special_tokens: Sequence[str]) -> Tokenizer:
    """BERT's pieces (Schuster and Nakajima 2012), cased. Spaces are not kept, and unknown characters become [UNK]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=list(special_tokens), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, chat_template: str | None = None) -> None:
    """Write `tokenizer.json`, what its special tokens are for, and the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,  # every space is the text's own
    }
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    for role, names in _ROLES.items():
        tokens = [name for name in names if name in special]
        if tokens:
            settings[role] = tokens[0]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)


def read_bpe(tokenizer: Tokenizer) -> BPE | None:
    """The vocabulary and merges of a tokenizer of the library; None where it is no BPE."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("type") != "BPE":
        return None
    vocabulary: dict[str, int] = model["vocab"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return BPE(vocabulary, [(vocabulary[left], vocabulary[right]) for left, right in pairs])
