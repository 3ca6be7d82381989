"""A tokenizer.json as GGUF says it: the algorithm, how text is cut before it, the tokens and their kinds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from training.export.folder import ExportError

_SPACE = "\u2581"
"""What stands for a space in the vocabularies of SentencePiece, which llama.cpp expects with byte fallback."""

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# llama.cpp knows ways of cutting text by name only (`llm_load_vocab`, tokenizer.ggml.pre).
_BY_PATTERN = {_LLAMA3: "llama-bpe", _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their numbers."""

    model: str
    """`gpt2` for byte-level BPE, `llama` for characters with byte fallback."""
    pre: str
    """How text is cut before."""
    tokens: list[str]
    types: list[TokenType]
    merges: list[str]


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Read `tokenizer.json`, filled up to `size` tokens; raises ExportError where llama.cpp has no such tokenizer."""
    state = json.loads((folder / "tokenizer.json").read_bytes())
    model = state["model"]
    if model.get("type") != "BPE":
        raise ExportError(f"gguf: only BPE tokenizers are supported, not {model.get('type')}")
    known: dict[str, int] = {**model["vocab"], **{token["content"]: token["id"] for token in state["added_tokens"]}}
    by_number = {number: token for token, number in known.items()}
    controls = {token["content"] for token in state["added_tokens"] if token["special"]}
    added = {token["content"] for token in state["added_tokens"]}
    is_bytes = bool(model.get("byte_fallback"))
    if is_bytes and (model["merges"] or _SPACE in known):
        raise ExportError("gguf: tokenizers with byte fallback and merges are not supported")
    tokens, types = [], []
    for number in range(max(size, max(by_number) + 1)):
        token = by_number.get(number)
        if token is None:
            tokens.append(f"[PAD{number}]")
            types.append(TokenType.UNUSED)
            continue
        tokens.append(token.replace(" ", _SPACE) if is_bytes and token not in added else token)
        if token in controls:
            types.append(TokenType.CONTROL)
        elif token in added:
            types.append(TokenType.USER_DEFINED)
        else:
            types.append(TokenType.BYTE if is_bytes and _is_byte(token) else TokenType.NORMAL)
    if is_bytes:
        return Vocabulary("llama", "default", tokens, types, [])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary("gpt2", _pre(state.get("pre_tokenizer")), tokens, types, merges)


def add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    """Say it in the file's metadata."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "llama":
        writer.add_token_scores([0.0] * len(vocabulary.tokens))
        writer.add_add_space_prefix(False)
    else:
        writer.add_token_merges(vocabulary.merges)
    # Chat templates say where a text begins; a second time would change the answers.
    writer.add_add_bos_token(False)


def _pre(state: dict[str, Any] | None) -> str:
    steps = state["pretokenizers"] if state and state["type"] == "Sequence" else [state] if state else []
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"] and steps[0]["use_regex"] and not steps[0]["add_prefix_space"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not steps[1]["use_regex"]:
        name = _BY_PATTERN.get(steps[0]["pattern"].get("Regex", ""))
        if name is not None:
            return name
    raise ExportError(
        f"gguf: llama.cpp does not split text as this tokenizer does ({', '.join(kinds) or 'not at all'})"
    )


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")
