"""Pairs to learn from: a query and a text that answers it, or a prompt with two answers, one chosen and one rejected.

Queries are JSON lines `{"query": …, "text": …}`. A line may name its `group` (a document, a customer): no group is both
learned from and measured on. Without it, the query is its own group. Other keys are ignored.

Preferences have a `prompt`, a text or a list of messages (also called `messages`); `chosen` and `rejected` are texts,
messages, or lists of messages, which may hold the prompt too. That is how such data sets come, and how trl reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.data.chats import Chat, explain
from training.data.rows import whole_rows
from training.data.shapes import messages_of
from training.data.sources import DataFile, read_files
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class QueryPair:
    """A query and a text that answers it."""

    query: str
    text: str
    group: str
    source: str
    """`file:line`, for error messages."""


def read_query_pairs(path: Path) -> DataFile[QueryPair]:
    """Read every line; raises DataError naming the first that cannot be used."""
    return read_files(path, _pairs, 'pairs: write one {"query": …, "text": …} a line')


def _pairs(path: Path, content: bytes) -> Iterator[QueryPair]:
    return (_pair(row, source) for source, row in whole_rows(path, content))


def _pair(row: dict[str, Any], source: str) -> QueryPair:
    for name in ("query", "text"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"{source}: {name} is missing or empty")
    group = row.get("group")
    own = " ".join(row["query"].split()).casefold()
    return QueryPair(row["query"], row["text"], own if group is None else str(group), source)


_MAY_BE_MESSAGES = ("messages", "prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt with two answers; in each chat the last message alone is learned from."""

    chosen: Chat
    rejected: Chat
    group: str
    """The prompt: pairs of one prompt stay on one side of a split."""
    source: str
    """`file:line`, for error messages."""


def read_preferences(path: Path) -> DataFile[Preference]:
    """Read every line; raises DataError naming the first that cannot be used."""
    return read_files(path, _preferences, 'pairs: write one {"prompt": …, "chosen": …, "rejected": …} a line')


def _preferences(path: Path, content: bytes) -> Iterator[Preference]:
    return (_preference(row, source) for source, row in whole_rows(path, content))


def _preference(row: dict[str, Any], source: str) -> Preference:
    try:
        row = {**row, **{name: _messages(row[name]) for name in _MAY_BE_MESSAGES if name in row}}
    except ValueError as error:
        raise DataError(f"{source}: {error}") from None
    prompt = _prompt(row, source)
    answers = {name: _answer(row.get(name), prompt, f"{source}: {name}") for name in ("chosen", "rejected")}
    if answers["chosen"] == answers["rejected"]:
        raise DataError(f"{source}: chosen and rejected are the same answer")
    before = [{**message, "weight": 0} if message.get("role") == "assistant" else message for message in prompt]
    chats = {}
    for name, answer in answers.items():
        try:
            chats[name] = Chat.model_validate({"messages": [*before, answer], "tools": row.get("tools")})
        except ValidationError as error:
            raise DataError(f"{source}: with {name}: {explain(error)}") from None
        chats[name] = chats[name].model_copy(update={"source": source})
    return Preference(chats["chosen"], chats["rejected"], json.dumps(prompt, sort_keys=True), source)


def _messages(value: Any) -> Any:
    return messages_of([value])[0] if isinstance(value, dict) else messages_of(value)


def _prompt(row: dict[str, Any], source: str) -> list[dict[str, Any]]:
    prompt = row.get("messages", row.get("prompt"))
    if prompt is None:  # it stands at the beginning of both
        chosen, rejected = row.get("chosen"), row.get("rejected")
        if isinstance(chosen, list) and isinstance(rejected, list) and chosen[:-1] == rejected[:-1] and chosen[:-1]:
            prompt = chosen[:-1]
    if isinstance(prompt, str) and prompt.strip():
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and prompt and all(isinstance(message, dict) for message in prompt):
        return prompt
    raise DataError(f"{source}: prompt is missing: a text, or messages")


def _answer(value: Any, prompt: list[dict[str, Any]], where: str) -> dict[str, Any]:
    if isinstance(value, list) and value[:-1] == prompt:
        value = value[-1:]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.strip():
        return {"role": "assistant", "content": value}
    if isinstance(value, dict) and value.get("role") == "assistant":
        return value
    raise DataError(f"{where} is not an answer: write a text, or a message of the assistant")
