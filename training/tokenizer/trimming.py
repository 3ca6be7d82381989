"""A smaller vocabulary for a tokenizer that exists: texts whose tokens are all left are encoded as before."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

from training.errors import RecipeError, SourceError

State = dict[str, Any]
"""What a tokenizer.json says."""


def require_byte_level(state: State) -> None:
    """Raise SourceError where a tokenizer is no byte-level BPE, in which any text can be spelled byte by byte."""
    model = state["model"]
    odd = [name for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback") if model.get(name)]
    if model.get("type") != "BPE" or odd or not _decodes_bytes(state.get("decoder") or {}):
        raise SourceError(
            "prune.vocabulary: the base's tokenizer is not byte-level BPE, so its tokens cannot be removed"
        )


def choose_tokens(state: State, counts: Mapping[int, int], size: int, named: Collection[int] = ()) -> list[int]:
    """Choose `size` tokens that spell the counted text in few tokens; returns their numbers, in order.

    What is rarest goes first, of what nothing else is made of; its parts then occur as often more. Single bytes stay,
    added tokens (control tokens are such), and those that are named. Raises RecipeError where the size cannot be.
    """
    vocabulary, merges = _vocabulary(state), _merges(state)
    if size >= len(vocabulary):
        raise RecipeError(f"prune.vocabulary: {size:,} is no fewer than the {len(vocabulary):,} tokens there are")
    added = {token["content"] for token in state["added_tokens"]}
    needed = {number for token, number in vocabulary.items() if len(token) == 1 or token in added} | set(named)
    made_of: dict[str, list[tuple[str, str]]] = defaultdict(list)
    uses: dict[str, int] = defaultdict(int)
    for left, right in merges:
        made_of[left + right].append((left, right))
        for part in {left, right}:
            uses[part] += 1
    often = {token: counts.get(number, 0) for token, number in vocabulary.items()}
    # Of equally rare ones the youngest.
    leaves = [(often[token], -vocabulary[token], token) for token in vocabulary if not uses[token]]
    heapq.heapify(leaves)
    left_over = set(vocabulary)
    while len(left_over) > size and leaves:
        count, _, token = heapq.heappop(leaves)
        if vocabulary[token] in needed:
            continue
        left_over.remove(token)
        for number, parts in enumerate(made_of[token]):
            for part in set(parts):
                uses[part] -= 1
            for part in parts if number == 0 else ():
                often[part] += count
        for part in {part for parts in made_of[token] for part in parts}:
            if not uses[part] and part in left_over:
                heapq.heappush(leaves, (often[part], -vocabulary[part], part))
    if len(left_over) > size:
        raise RecipeError(f"prune.vocabulary: {size:,} is too few: {len(left_over):,} tokens must remain")
    return sorted(vocabulary[token] for token in left_over)


def trim(state: State, kept: Sequence[int]) -> State:
    """The tokenizer with these tokens only, numbered in the same order from 0 on."""
    old = _vocabulary(state)
    token_of = {number: token for token, number in old.items()}
    new = {token_of[number]: index for index, number in enumerate(kept)}
    trimmed = deepcopy(state)
    model = trimmed["model"]
    # Added tokens as well: the library numbers what it does not find there anew.
    model["vocab"] = new
    model["merges"] = [[left, right] for left, right in _merges(state) if left + right in new]
    renumber(trimmed, new)
    return trimmed


def renumber(state: State, new: Mapping[str, int]) -> None:
    """Give the special tokens, wherever a tokenizer.json names them, their new numbers."""
    for token in state["added_tokens"]:
        token["id"] = new[token["content"]]
    if state.get("padding"):
        state["padding"]["pad_id"] = new[state["padding"]["pad_token"]]
    after = state.get("post_processor") or {}
    for part in (after, *after.get("processors", ())):  # Sequence
        for special in part.get("special_tokens", {}).values():  # TemplateProcessing
            special["ids"] = [new[token] for token in special["tokens"]]
        for name in ("sep", "cls"):  # BertProcessing: [token, number]
            if name in part:
                part[name][1] = new[part[name][0]]


def _vocabulary(state: State) -> dict[str, int]:
    return {**state["model"]["vocab"], **{token["content"]: token["id"] for token in state["added_tokens"]}}


def _merges(state: State) -> list[tuple[str, str]]:
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in state["model"]["merges"])
    return [(left, right) for left, right in pairs]


def _decodes_bytes(decoder: State) -> bool:
    return decoder.get("type") == "ByteLevel" or any(
        part.get("type") == "ByteLevel" for part in decoder.get("decoders", ())
    )
