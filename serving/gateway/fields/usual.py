"""Questions of the usual kind: a few plain fields, and messages of a role and a text. One check tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from serving.gateway.fields.lists import FIELDS

_NAMES = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "stream", "n", "seed", "user"),
    *("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"),
)
"""What most clients send. No rule but the one about its kind is about any of these."""


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
    """Whether nothing of the body has to be refused, left out or looked into; of others that is to be found out."""
    try:
        msgspec.convert(body, _USUAL[path])
    except msgspec.ValidationError:
        return False
    return True
