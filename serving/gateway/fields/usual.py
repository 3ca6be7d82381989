"""One check for the usual request body: a few plain fields, and messages of a role and a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from serving.gateway.fields.lists import FIELDS

_NAMES = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "stream", "n", "seed", "user"),
    *("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"),
)
"""What most clients send. These fields have one rule each: their type and range."""


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Text alone: nothing in it is fetched from anywhere."""

    role: str
    content: str


def _usual(path: str) -> type[msgspec.Struct]:
    kinds = FIELDS[path]
    types = {name: kinds[name].schema for name in _NAMES if name in kinds}
    fields = [(name, list[_Message] if name == "messages" else kind, None) for name, kind in types.items()]
    return msgspec.defstruct("Usual", fields, forbid_unknown_fields=True)


_USUAL: Mapping[str, type[msgspec.Struct]] = {path: _usual(path) for path in FIELDS}


def is_usual(body: dict[str, Any], path: str) -> bool:
    """Whether no field of the body has to be refused, dropped or inspected; if False, the full rules decide."""
    try:
        msgspec.convert(body, _USUAL[path])
    except msgspec.ValidationError:
        return False
    return True
