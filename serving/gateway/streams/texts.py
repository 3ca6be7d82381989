"""Every string of an answer is text, but for a closed list of identifiers: the walk that finds and cleans them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from serving.gateway.streams.chunks import Json, encode
from serving.guard import Answers, GuardReport

IDENTIFIERS = frozenset(
    {
        "id",
        "object",
        "model",
        "role",
        "type",
        "status",
        "created",
        "finish_reason",
        "native_finish_reason",
        "system_fingerprint",
        "service_tier",
        "provider",
        "call_id",
        "item_id",
        "tool_call_id",
        "tool_use_id",
        "response_id",
        "severity",
        "format",
        "obfuscation",
    }
)
"""Fields whose values name something and are no text, as long as they look like it."""

_LIKE_AN_IDENTIFIER = re.compile(r"[\w.:/+=-]{0,256}", re.ASCII)
_KEY = re.compile(r"[A-Za-z_$][\w.$-]{0,63}", re.ASCII)

JSON_TEXTS = frozenset({"arguments", "partial_json", "input"})
"""Fields that hold JSON as text."""

OPAQUE = frozenset(
    {
        "bytes",
        "completion_probabilities",
        "context",
        "hidden_states",
        "input_ids",
        "input_token_logprobs",
        "input_top_logprobs",
        "kv_transfer_params",
        "logprobs",
        "output_ids",
        "output_token_ids",
        "output_token_logprobs",
        "output_top_logprobs",
        "prefill",
        "prompt_logprobs",
        "prompt_token_ids",
        "token_ids",
        "tokens",
        "top_logprobs",
        "top_tokens",
    }
)
"""Lists and objects under these names spell out a text by its tokens."""


class Text(NamedTuple):
    """One text where it stands in decoded JSON. `path`: names, and positions or `index` in lists."""

    holder: Any
    key: Any
    path: tuple[str | int, ...]

    @property
    def value(self) -> str:
        text: str = self.holder[self.key]
        return text

    @property
    def is_json(self) -> bool:
        return self.key in JSON_TEXTS


def is_identifier(name: object, value: str) -> bool:
    """Whether a string under this name is no text."""
    return name in IDENTIFIERS and _LIKE_AN_IDENTIFIER.fullmatch(value) is not None


def texts_within(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[Text]:
    """Every non-empty text in decoded JSON. Raises RecursionError where it is nested as no answer is."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if isinstance(value, str):
                if value and not is_identifier(name, value):
                    yield Text(tree, name, (*path, name))
            elif value and isinstance(value, dict | list):
                yield from texts_within(value, (*path, name))
    elif isinstance(tree, list):
        for position, value in enumerate(tree):
            if isinstance(value, str):
                if value:
                    yield Text(tree, position, (*path, position))
            elif value and isinstance(value, dict | list):
                own = value.get("index") if isinstance(value, dict) else None
                yield from texts_within(value, (*path, own if type(own) is int else position))


def clean_keys(guard: Answers, tree: Any) -> bool:
    """Clean names that are no names: an object may have any. Returns whether there were such."""
    changed = False
    if isinstance(tree, dict):
        for name in [each for each in tree if _KEY.fullmatch(each) is None]:
            cleaned, _ = guard.clean_text(name)
            if cleaned != name:
                tree[cleaned] = tree.pop(name)
                changed = True
        for value in tree.values():
            changed = clean_keys(guard, value) or changed
    elif isinstance(tree, list):
        for value in tree:
            changed = clean_keys(guard, value) or changed
    return changed


def drop_opaque(tree: Any, but: frozenset[str] = frozenset()) -> bool:
    """Take out what spells a text by its tokens, and lists of bare numbers, which may.

    `but`: fields of `tree` that are let alone. Returns whether there was any.
    """
    changed = False
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name in but or not value or not isinstance(value, dict | list):
                continue
            if name in OPAQUE or _is_numbers(value):
                tree[name] = None
                changed = True
            else:
                changed = drop_opaque(value) or changed
    elif isinstance(tree, list):
        for value in tree:
            changed = drop_opaque(value) or changed
    return changed


def clean_where_it_stands(guard: Answers, holder: Any, key: Any, reports: list[GuardReport], *, json: bool) -> bool:
    """Clean `holder[key]` and add what was found in it to `reports`; returns whether it is another text now."""
    text = holder[key]
    cleaned, report = guard.clean_text(text, json=json)
    if report:
        reports.append(report)
    if cleaned == text:
        return False
    holder[key] = cleaned
    return True


def as_text(value: Any) -> str:
    """Arguments of a call as text, which they are by the specification; some engines send the object."""
    return value if isinstance(value, str) else encode(value).decode()


def plain_content(value: Any) -> str | None:
    """The text of a content that comes as a list of texts, or as a number; None where it is anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return as_text(value)
    if not isinstance(value, list):
        return None
    texts = [part if isinstance(part, str) else _part_text(part) for part in value]
    return "".join(text for text in texts if text is not None) if None not in texts else None


def _part_text(part: Any) -> str | None:
    if not isinstance(part, dict) or not part.keys() <= {"type", "text"}:
        return None
    text = part.get("text")
    return text if isinstance(text, str) and part.get("type", "text") in ("text", "output_text") else None


def _is_numbers(value: Json | list[Any]) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(type(each) is int for each in value)
