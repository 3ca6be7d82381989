"""One record of a data set: a chat, a labelled text, or a text; every row is one of the three or an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from training.data.chats import Chat, arguments_of, explain
from training.data.labelled import is_label
from training.data.shapes import chat_of
from training.errors import DataError

RecordKind = Literal["chat", "labelled", "text"]
Side = Literal["train", "heldout"]

_SURROGATES = re.compile("[\ud800-\udfff]")
_FOLDED_AWAY = re.compile(r"[\W\d_]+")
KINDS: dict[str, str] = {"chat": "chats", "labelled": "labelled texts", "text": "texts"}


@dataclass(slots=True)
class Record:
    """One record on its way; `row` is what will be written."""

    kind: RecordKind
    row: dict[str, Any]
    source: str
    """`file:line`."""
    side: Side | None = None
    """Of a published split."""
    weight: float = 1.0
    """How many times it is trained on."""

    @property
    def text(self) -> str:
        """All that it says: what duplicates, languages and lengths are told by."""
        if self.kind != "chat":
            return str(self.row["text"])
        return "\n".join(text for message in self.row["messages"] if (text := message.get("content")))

    def group(self, without_digits: bool) -> str:
        """What stays on one side of a split: as the file says, or all chats of one question, all equal texts."""
        if "group" in self.row:
            return f"group {self.row['group']}"
        if self.kind == "chat":
            asked = next(message.get("content") for message in self.row["messages"] if message["role"] == "user")
            return folded(asked or "", without_digits)
        return folded(self.text, without_digits)

    @property
    def labels(self) -> tuple[str, ...]:
        """Sorted; none where it has none."""
        if self.kind != "labelled":
            return ()
        return tuple(sorted(self.row["labels"])) if "labels" in self.row else (self.row["label"],)

    def change(self, of_text: Callable[[str], str]) -> bool:
        """Put each of its texts through a function; whether that changed any."""
        before = self.row
        if self.kind == "chat":
            self.row = {**before, "messages": [_changed_message(message, of_text) for message in before["messages"]]}
        else:
            self.row = {**before, "text": of_text(before["text"])}
        return self.row != before


def _changed_message(message: dict[str, Any], of_text: Callable[[str], str]) -> dict[str, Any]:
    """What a message says, thinks and calls for; roles, names and identifiers stay."""
    made = dict(message)
    for key in ("content", "reasoning", "reasoning_content"):
        if isinstance(made.get(key), str):
            made[key] = of_text(made[key])
    if made.get("tool_calls"):
        made["tool_calls"] = [_changed_call(call, of_text) for call in made["tool_calls"]]
    return made


def _changed_call(call: dict[str, Any], of_text: Callable[[str], str]) -> dict[str, Any]:
    before = arguments_of(call)
    arguments = _changed_values(before, of_text)
    if arguments == before:
        return call
    if isinstance(call["function"]["arguments"], str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _changed_values(value: Any, of_text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return of_text(value)
    if isinstance(value, dict):
        return {key: _changed_values(item, of_text) for key, item in value.items()}
    return [_changed_values(item, of_text) for item in value] if isinstance(value, list) else value


def folded(text: str, without_digits: bool = False) -> str:
    """Equal for texts that differ in case and spaces alone; or also in digits and punctuation, where letters remain."""
    plain = " ".join(text.split()).casefold()
    return (_FOLDED_AWAY.sub(" ", plain).strip() or plain) if without_digits else plain


def record_of(row: Mapping[str, Any], source: str, columns: Mapping[Any, str]) -> Record:
    """Tell what a row is and check it; raises DataError with its place."""
    row = _renamed(row, columns, source)
    if "chosen" in row and "rejected" in row:
        raise DataError(f"{source}: is a pair of answers: give the file itself to method dpo")
    group = {"group": str(row["group"])} if row.get("group") not in (None, "") else {}
    try:
        chat = chat_of(row)
    except ValueError as error:
        raise DataError(f"{source}: {error}") from None
    if chat is not None:
        try:
            Chat.model_validate(chat)
        except ValidationError as error:
            raise DataError(f"{source}: {explain(error)}") from None
        return Record("chat", _writable(chat | group), source)
    text = row.get("text")
    if not isinstance(text, str):
        if "text" in row:
            raise DataError(f"{source}: text is {json.dumps(text, default=str)[:40]}, and no text")
        keys = ", ".join(map(str, row)) or "none"
        raise DataError(f"{source}: has neither messages nor text; its keys are {keys}: name them in sources.columns")
    if "labels" in row or "label" in row:
        return Record("labelled", _writable({"text": text, **_labels(row, source), **group}), source)
    return Record("text", _writable({"text": text, **group}), source)


def _renamed(row: Mapping[str, Any], columns: Mapping[Any, str], source: str) -> Mapping[str, Any]:
    if not columns:
        return row
    for name, column in columns.items():
        if column not in row:
            raise DataError(f"{source}: has no {column!r}, which sources.columns.{name} names")
    return {**row, **{name: row[column] for name, column in columns.items()}}


def _labels(row: Mapping[str, Any], source: str) -> dict[str, Any]:
    if "labels" in row:
        labels = row["labels"]
        if not isinstance(labels, list) or not all(is_label(label) for label in labels):
            raise DataError(f"{source}: labels is a list of texts or whole numbers")
        return {"labels": list(dict.fromkeys(str(label) for label in labels))}
    if not is_label(row["label"]):
        raise DataError(f"{source}: label is a text or a whole number")
    return {"label": str(row["label"])}


def _writable(row: dict[str, Any]) -> dict[str, Any]:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become the replacement character."""
    made: dict[str, Any] = _without_surrogates(row)
    return made


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return [_without_surrogates(item) for item in value] if isinstance(value, list) else value
