"""Every string of an answer is text, but for a closed list of identifiers: the walk that finds and cleans them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from serving.gateway.streams.chunks import PLAIN, Json, encode
from serving.guard import Answers, GuardReport, TextStream

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

_MAX_IDENTIFIER = 256
_LIKE_AN_IDENTIFIER = re.compile(rf"[\w.:/+=-]{{0,{_MAX_IDENTIFIER}}}", re.ASCII)
_SIGNS_OF_IDENTIFIERS = re.compile(r"[\w.:/+=-]*+", re.ASCII)
_KEY = re.compile(r"[A-Za-z_$][\w.$-]{0,63}", re.ASCII)

_USUAL_KEYS = IDENTIFIERS | {
    *("annotations", "choices", "completion_tokens", "content", "content_block", "content_index", "created_at"),
    *("delta", "index", "input", "input_tokens", "input_tokens_details", "instructions", "item", "logprobs"),
    *("max_output_tokens", "message", "metadata", "name", "output", "output_index", "output_tokens"),
    *("output_tokens_details", "parallel_tool_calls", "part", "prompt_tokens", "reasoning", "response"),
    *("sequence_number", "stop_reason", "stop_sequence", "temperature", "text", "tool_choice", "tools", "top_p"),
    *("total_tokens", "truncation", "usage"),
}
"""Names that nearly every object has, all of them like `_KEY`: not each is looked at."""

_JSON = frozenset({"arguments", "partial_json", "function_call"})
"""Fields that are JSON by their API: the arguments of functions. In a stream also kinds that end in `_arguments`."""

_FREE = frozenset({"input", "code", "action", "operation"})
"""What a tool gets as free text, a program or a patch: no JSON, and no client renders it. In a stream also kinds such
as `custom_tool_call_input`."""

_ASIDE = frozenset(
    {
        *("reasoning", "reasoning_content", "reasoning_text", "reasoning_summary_text", "summary_text", "thinking"),
        "refusal",
    }
)
"""Texts beside the answer proper, which are prose even where the answer is JSON."""

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
    def kind(self) -> str:
        """What `clean_as` and `stream_as` are to be told. A list holds what its name says."""
        names = [name for name in self.path if isinstance(name, str)]
        told = next((name for name in names if name in _JSON or name in _FREE), names[-1] if names else "")
        if told != "text" or not isinstance(self.holder, dict):
            return told
        kind = str(self.holder.get("type")).removeprefix("response.").removesuffix(".done")
        return kind if kind in _ASIDE else told


def is_identifier(name: object, value: str) -> bool:
    """Whether a string under this name is no text."""
    return name in IDENTIFIERS and _LIKE_AN_IDENTIFIER.fullmatch(value) is not None


def are_identifiers(values: Sequence[str | None]) -> bool:
    """Whether none of these, which stand under names of identifiers, is a text."""
    # All at once, as nearly always: a slash may be in any of them, and none is longer than all together.
    if _LIKE_AN_IDENTIFIER.fullmatch("/".join(map(str, values))) is not None:
        return True
    return all(value is None or _LIKE_AN_IDENTIFIER.fullmatch(value) is not None for value in values)


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


def texts_alone(tree: Any) -> list[Text] | None:
    """As `texts_within`, where texts are all that is to be looked at: each name is one, and nothing spells a text.

    None: `drop_opaque` or `clean_keys` may change something, or there are details of tokens. What nearly all events
    are is known by one walk instead of four.
    """
    walk = _Walk()
    return walk.found if walk.goes_through(tree, ()) and walk.names_are_identifiers else None


class _Walk:
    """Finds texts, and ends early where there is anything else to be looked at."""

    def __init__(self) -> None:
        self.found: list[Text] = []
        self._names: list[str] = []  # what may be identifiers, to be looked at together; none is longer than one

    @property
    def names_are_identifiers(self) -> bool:
        return _SIGNS_OF_IDENTIFIERS.fullmatch("".join(self._names)) is not None

    def goes_through(self, tree: Any, path: tuple[str | int, ...]) -> bool:
        """Raises RecursionError as `texts_within` does."""
        return self._object(tree, path) if isinstance(tree, dict) else self._list(tree, path)

    def _object(self, tree: Json, path: tuple[str | int, ...]) -> bool:
        if not tree.keys() <= _USUAL_KEYS and any(_KEY.fullmatch(name) is None for name in tree):
            return False
        for name, value in tree.items():
            if not value:
                continue
            if isinstance(value, dict | list):
                if name in OPAQUE or not self.goes_through(value, (*path, name)):
                    return False
            elif isinstance(value, str):
                if name not in IDENTIFIERS:
                    self.found.append(Text(tree, name, (*path, name)))
                elif len(value) > _MAX_IDENTIFIER:
                    return False
                else:
                    self._names.append(value)
        return True

    def _list(self, tree: list[Any], path: tuple[str | int, ...]) -> bool:
        if _is_numbers(tree):
            return False
        for position, value in enumerate(tree):
            if isinstance(value, str):
                if value:
                    self.found.append(Text(tree, position, (*path, position)))
            elif value and isinstance(value, dict | list):
                own = value.get("index") if isinstance(value, dict) else None
                if not self.goes_through(value, (*path, own if type(own) is int else position)):
                    return False
        return True


def clean_keys(guard: Answers, tree: Any) -> bool:
    """Clean names that are no names: an object may have any. Returns whether there were such."""
    changed = False
    if isinstance(tree, dict):
        for name in [key for key in tree if _KEY.fullmatch(key) is None]:
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


def clean_as(guard: Answers, kind: str, text: str) -> tuple[str, GuardReport]:
    """Clean a whole text of this kind (a field's name, or that of a channel): JSON, a tool's free text, or prose."""
    if kind in PLAIN:
        return guard.clean_text(text)
    return _reading(guard, kind).clean_text(text, json=_is_json(kind))


def stream_as(guard: Answers, kind: str) -> TextStream:
    """A cleaner for one text of this kind that comes in pieces."""
    return _reading(guard, kind).stream(json=_is_json(kind))


def _is_json(kind: str) -> bool:
    return kind in _JSON or kind.endswith("_arguments")


def _reading(guard: Answers, kind: str) -> Answers:
    if kind in _ASIDE:
        return guard.free_text(shown=True)
    is_free = kind in _FREE or ("_call_" in kind and not _is_json(kind))
    return guard.free_text(shown=False) if is_free else guard


def clean_where_it_stands(guard: Answers, holder: Any, key: Any, reports: list[GuardReport], kind: str) -> bool:
    """Clean `holder[key]` and add what was found in it to `reports`; returns whether it is another text now."""
    text = holder[key]
    cleaned, report = clean_as(guard, kind, text)
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
    return isinstance(value, list) and len(value) > 1 and all(type(item) is int for item in value)
