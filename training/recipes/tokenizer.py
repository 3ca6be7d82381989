"""The recipe of `tokenizer`: one is learned from text, or tokens are added to a model that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from training.recipes.sections import Recipe, Section

# One token for each byte.
NUM_BYTES = 256


class TokenizerData(Section):
    """Which text is learned from and which is held out to measure by."""

    train: Path
    """A text file, or JSON lines `{"text": …}` or `{"messages": […]}`. Relative paths start at the recipe's folder."""
    heldout: Path | None = None
    """Text that is never learned from; without it, the end of `train` is held out."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Which part of `train`, where `heldout` is not given."""


class ExtendSettings(Section):
    """Tokens for a model that exists."""

    base: str
    """The model: NAME[@VERSION] in the registry, a digest, or a folder's path."""
    tokens: list[str] | int | Path
    """Which: a list; a file with one a line; or how many, which are then learned from `data.train` as further merges.
    A word in running text begins with its space: `" indemnitee"`."""

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, tokens: list[str] | int | Path) -> list[str] | int | Path:
        if tokens == [] or (isinstance(tokens, int) and tokens < 1):
            raise ValueError("there must be one at least")
        return tokens


class TokenizerRecipe(Recipe):
    """A tokenizer is learned from text, or tokens are added to a model's own."""

    method: Literal["tokenizer"]
    """What is done; the rest of the recipe depends on it."""
    kind: Literal["bpe", "unigram", "wordpiece"] = "bpe"
    """Byte-level BPE, as GPT-2's; unigram over bytes; or WordPiece as BERT's, which does not keep spaces."""
    vocab_size: Annotated[int, Field(ge=2)] = 8192
    """Tokens, special ones included; fewer where the text has no more to merge."""
    special_tokens: list[Annotated[str, Field(min_length=1)]] | None = None
    """By default `<|endoftext|>`, and BERT's five for `wordpiece`; their ids are the first."""
    chat_template: Literal["chatml"] | None = None
    """How chats are written, with special tokens for the beginning and the end of a turn."""
    data: TokenizerData | None = None
    """Text; may be left out where `extend` names the tokens."""
    extend: ExtendSettings | None = None
    """Add tokens to a model in place of making a tokenizer."""

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
            raise ValueError("special_tokens: wordpiece needs [UNK], which stands for what it does not know")

    def all_special_tokens(self) -> list[str]:
        """With those of the chat template, each once."""
        default = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] if self.kind == "wordpiece" else ["<|endoftext|>"]
        chosen = default if self.special_tokens is None else self.special_tokens
        chat = ["<|im_start|>", "<|im_end|>"] if self.chat_template == "chatml" else []
        return list(dict.fromkeys([*chosen, *chat]))
