"""How many bytes of a text a token holds: what tokenizers compare by. More is better: fewer steps for the same text."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from training.errors import SourceError
from training.tokenizer.bpe import BYTE_CHARACTERS

# How OpenAI's encodings cut words, by how many ranks their published files have. Source: tiktoken, `openai_public.py`.
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {50_256: _GPT2, 50_280: _GPT2, 100_256: _CL100K, 199_998: _O200K}


@dataclass(frozen=True)
class TokenCount:
    """A text in bytes and in tokens."""

    bytes: int
    tokens: int
    vocab_size: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens

    def figures(self) -> dict[str, float]:
        """As `--json` writes them."""
        return {
            "bytes_per_token": self.bytes_per_token,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "vocab_size": self.vocab_size,
        }


def count_tokens(tokenizer: Tokenizer, documents: Sequence[str]) -> TokenCount:
    """Encode documents whole, without special tokens; what looks like a control token is text."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    tokens = sum(len(tokenizer.encode(document, add_special_tokens=False)) for document in documents)
    tokenizer.encode_special_tokens = before
    return TokenCount(sum(len(document.encode()) for document in documents), tokens, tokenizer.get_vocab_size())


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder, or of a file of ranks as tiktoken keeps them; raises SourceError."""
    if path.is_file():
        return _from_ranks(path)
    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    except Exception as error:  # the library raises Exception itself
        raise SourceError(f"{path} has no usable tokenizer.json: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_ranks(path: Path) -> Tokenizer:
    """Lines of a token in Base64 and its rank; two neighbours merge that together are the token of lowest rank."""
    ranks: dict[str, int] = {}
    try:
        for line in path.read_bytes().splitlines():
            token, rank = line.split()
            ranks["".join(BYTE_CHARACTERS[byte] for byte in base64.b64decode(token, validate=True))] = int(rank)
    except (ValueError, binascii.Error):
        raise SourceError(f"{path} is not a file of ranks: lines of a token in Base64 and a number") from None
    pattern = _PATTERNS.get(len(ranks))
    if pattern is None:
        raise SourceError(f"{path} has {len(ranks)} ranks; supported are those of GPT-2, p50k, cl100k and o200k")
    # tiktoken needs no merges, only ranks: every way to make a token of two others is one, lowest rank first.
    splits = [
        (rank, token[:middle], token[middle:])
        for token, rank in ranks.items()
        for middle in range(1, len(token))
        if token[:middle] in ranks and token[middle:] in ranks
    ]
    tokenizer = Tokenizer(models.BPE(ranks, [(left, right) for _, left, right in sorted(splits)]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
