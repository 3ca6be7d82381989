"""Every body that leaves for an engine: questions, continuations, what judges and shadows are asked.

A body holds the fields of its endpoint's list and those that an operator added, the salt of the engine's prefix cache,
and the mark. Nothing else is put into a body anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from serving.gateway.body import encode
from serving.gateway.fields.lists import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

_SALTED = frozenset({CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES})
"""Paths where an engine reads a prompt into its cache."""


class Asked(Protocol):
    """The engine that gets a body, as far as that depends on it."""

    def is_vllm(self, model: str) -> bool:
        """Whether it is vLLM with this model."""


def engine_body(
    path: str,
    fields: Mapping[str, Any],
    engine: Asked,
    salt: str,
    arguments: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] = {},
) -> bytes:
    """A body for an engine's `path`.

    Args:
        path: one of those in `fields.lists.FIELDS`.
        fields: what was read by `QuestionReader`, or made here.
        engine: who gets it; what only vLLM understands is sent to no other.
        salt: whose part of the engine's prefix cache it is read into.
        arguments: what our plugin is told.
        more: takes the place of `fields` of the same names.
    """
    body = {**fields, **more}
    if salt and path in _SALTED and engine.is_vllm(body["model"]):
        body["cache_salt"] = salt
    if arguments:
        body["vllm_xargs"] = {**(body.get("vllm_xargs") or {}), **arguments}
    return encode(body)
