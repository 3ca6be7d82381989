"""The recipe of `tokenizer`: one is learned from text, or tokens are added to a model that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from training.recipes.sections import Recipe, Section

# One token for each byte.
NUM_BYTES = 256


class TokenizerData(Section):
    """Text to train on, and held-out text to measure on."""

    train: Path
    """A text file, JSON lines `{"text": …}` or `{"messages": […]}`, or a folder of either. Paths are relative to the
    recipe's folder."""
    heldout: Path | None = None
    """Text never trained on. By default, the end of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of `train` to hold out if `heldout` is not set."""


class ExtendSettings(Section):
    """Tokens to add to an existing model."""

    base: str
    """Model to extend: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    tokens: list[str] | int | Path
    """A list of tokens, a file with one token per line, or a number of tokens to learn from `data.train` as further
    merges. A word in running text begins with its space: `" indemnitee"`."""

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, tokens: list[str] | int | Path) -> list[str] | int | Path:
        if tokens == [] or (isinstance(tokens, int) and tokens < 1):
            raise ValueError("name at least one token")
        return tokens


class TokenizerRecipe(Recipe):
    """Trains a tokenizer on text, or adds tokens to a model's tokenizer."""

    method: Literal["tokenizer"]
    """The method, which determines the other settings."""
    kind: Literal["bpe", "unigram", "wordpiece"] = "bpe"
    """Byte-level BPE like GPT-2's, unigram over bytes, or WordPiece like BERT's, which does not preserve spaces."""
    vocab_size: Annotated[int, Field(ge=2)] = 8192
    """Number of tokens, including special ones. It is lower if the text has no more to merge."""
    special_tokens: list[Annotated[str, Field(min_length=1)]] | None = None
    """Special tokens, which get the first ids; default: `<|endoftext|>`, or BERT's five for `wordpiece`."""
    chat_template: Literal["chatml"] | None = None
    """Chat template, with special tokens for the start and end of a turn."""
    data: TokenizerData | None = None
    """Text. Not needed if `extend` names the tokens."""
    extend: ExtendSettings | None = None
    """Adds tokens to a model instead of making a tokenizer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data is not None and self.data.heldout == self.data.train:
            raise ValueError("data.heldout is data.train: held-out text must not be learned from")
        if self.extend is None:
            self._check_new()
        elif unused := self.model_fields_set & {"kind", "vocab_size", "special_tokens", "chat_template"}:
            raise ValueError(f"extend keeps the base's tokenizer: leave out {', '.join(sorted(unused))}")
        elif self.data is None and isinstance(self.extend.tokens, int):
            raise ValueError("extend.tokens is a number: data.train must say what text to learn them from")
        return self

    def _check_new(self) -> None:
        if self.data is None:
            raise ValueError("setting 'data' is missing")
        least = (0 if self.kind == "wordpiece" else NUM_BYTES) + len(self.all_special_tokens())
        if self.vocab_size < least:
            raise ValueError(f"vocab_size {self.vocab_size} is less than {least}: 256 bytes and the special tokens")
        if self.kind == "wordpiece" and "[UNK]" not in self.all_special_tokens():
            raise ValueError("special_tokens: wordpiece needs [UNK] for unknown characters")

    def all_special_tokens(self) -> list[str]:
        """With those of the chat template, each once."""
        default = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if self.kind == "wordpiece" else ["<|endoftext|>"]
        chosen = default if self.special_tokens is None else self.special_tokens
        chat = ["<|im_start|>", "<|im_end|>"] if self.chat_template == "chatml" else []
        return list(dict.fromkeys([*chosen, *chat]))
