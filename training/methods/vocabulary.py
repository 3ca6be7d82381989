"""A language model with fewer tokens: those that some text needs least are taken out, and their rows with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from tokenizers import Tokenizer
from torch import nn

from training.data import IGNORED, Example
from training.errors import SourceError
from training.evaluate.loading import load_model, load_tokenizer, stored_dtype
from training.evaluate.source import Source
from training.methods import adapters
from training.methods.examples import parts_of
from training.tokenizer.trimming import State, choose_tokens, require_byte_level, trim

# The same tokenizer in older forms, which would know the tokens by their old numbers.
_OLDER_FILES = ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer.model", "vocab.txt")

# Where configurations name tokens by number, beside what ends in `token_id`.
_NAMED_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
_CHAT = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]


def write_trimmed(base: Source, size: int, examples: Iterable[Example], texts: Iterable[str], folder: Path) -> None:
    """Write the base with the `size` tokens that say examples and texts in the fewest.

    Control tokens, single bytes, what configurations name and what every chat is framed by stay. Raises SourceError
    where the base cannot be trimmed, RecipeError where the size cannot be.
    """
    state = _read(base.path / "tokenizer.json")
    require_byte_level(state)
    model = load_model(base, stored_dtype(base))
    generation_path = base.path / "generation_config.json"
    generation = _read(generation_path) if generation_path.exists() else {}
    named = _named(model.config.to_dict()) | _named(generation)
    counts = Counter(token for example in examples for token in example.input_ids)
    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    for text in texts:
        for part in parts_of(text):
            counts.update(tokenizer.encode(part, add_special_tokens=False).ids)
    kept = choose_tokens(state, counts, size, named | _frame(base.path))
    new = {number: index for index, number in enumerate(kept)}
    rows = len(model.get_input_embeddings().weight)
    if not named <= new.keys() or kept[-1] >= rows:
        raise SourceError(f"prune.vocabulary: {base.identity.ref} and its tokenizer do not have the same tokens")
    keep_rows(model, kept)
    if any(len(weight) == rows for weight in model.parameters()):
        raise SourceError(f"prune.vocabulary: {base.identity.ref} has more that is numbered by tokens than embeddings")
    for name, value in _renumbered(model.config.to_dict(), new).items():
        setattr(model.config, name, value)
    adapters.save_merged(model, base.path, folder, model.dtype)
    if generation:
        _write(folder / generation_path.name, generation | _renumbered(generation, new))
    write_tokenizer(folder, trim(state, kept))


def keep_rows(model: Any, kept: Sequence[int]) -> None:
    """Leave these rows of the embeddings, and of the output layer where there is one."""
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows_VD = table.weight.detach()[list(kept)].clone()
    model.set_input_embeddings(nn.Embedding.from_pretrained(rows_VD, freeze=False))
    if head is not None:
        is_tied = head.weight is table.weight
        head.weight = model.get_input_embeddings().weight if is_tied else _rows(head.weight, kept)
        head.out_features = len(kept)
        if head.bias is not None:
            head.bias = _rows(head.bias, kept)
    model.config.vocab_size = len(kept)


def write_tokenizer(folder: Path, state: State) -> None:
    """Write a tokenizer.json whose tokens have other numbers than before, and take away what says the old ones."""
    _write(folder / "tokenizer.json", state)
    remove_older_files(folder)
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        described = _read(settings)
        described.pop("added_tokens_decoder", None)  # tokenizer.json says it by the new numbers
        _write(settings, described)


def remove_older_files(folder: Path) -> None:
    """Take away older forms of a tokenizer that is not what they say any more."""
    for name in _OLDER_FILES:
        (folder / name).unlink(missing_ok=True)


def scored_bytes(folder: Path, examples: Sequence[Example]) -> int:
    """How many bytes of text those tokens hold that a loss is taken over, with the byte-level tokenizer there."""
    state = _read(folder / "tokenizer.json")
    length_of = {number: len(token) for token, number in state["model"]["vocab"].items()}
    length_of |= {token["id"]: len(token["content"].encode()) for token in state["added_tokens"]}
    return sum(length_of[label] for example in examples for label in example.labels[1:] if label != IGNORED)


def _frame(folder: Path) -> set[int]:
    """What the chat template writes around messages."""
    tokenizer = load_tokenizer(folder)
    frame: set[int] = set()
    for chat in ([*_CHAT, _CHAT[0]], [{"role": "system", "content": "?"}, *_CHAT]) if tokenizer.chat_template else ():
        try:
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=chat[-1] is _CHAT[0])
        except (TemplateError, TypeError):  # it has no such role
            continue
        frame |= set(tokenizer(text, add_special_tokens=False)["input_ids"])
    return frame


def _named(settings: Mapping[str, Any]) -> set[int]:
    return {number for name, value in settings.items() if _names_tokens(name) for number in _flat(value)}


def _names_tokens(name: str) -> bool:
    return name.endswith(("token_id", "token_ids")) or name in _NAMED_LISTS


def _flat(value: Any) -> list[int]:
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [value] if isinstance(value, int) else []


def _renumbered(settings: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    def renumber(value: Any) -> Any:
        if isinstance(value, list):
            return [renumber(item) for item in value]
        return new[value] if isinstance(value, int) else value

    return {name: renumber(value) for name, value in settings.items() if _names_tokens(name)}


def _rows(weight: torch.Tensor, kept: Sequence[int]) -> nn.Parameter:
    return nn.Parameter(weight.detach()[list(kept)].clone())


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")
