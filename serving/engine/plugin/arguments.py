"""What a request may tell the plugin: `vllm_xargs = {"signet_mark": SCHEME, "signet_key": KEY_ID}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMES = ("gumbel",)
SCHEME_ARGUMENT, KEY_ARGUMENT = "signet_mark", "signet_key"
PREFIX = "signet_"


@dataclass(frozen=True, slots=True)
class MarkArguments:
    """A request for a mark; the key id has a key id's type, and nothing more is known of it."""

    scheme: str
    key_id: str


def mark_arguments(extra_args: Mapping[str, Any] | None) -> MarkArguments | None:
    """The mark asked for, None where none is. Raises ValueError with a line for the client."""
    ours = {name: value for name, value in (extra_args or {}).items() if name.startswith(PREFIX)}
    if not ours:
        return None
    unknown = sorted(ours.keys() - {SCHEME_ARGUMENT, KEY_ARGUMENT})
    if unknown:
        raise ValueError(f"vllm_xargs: {unknown[0]} is unknown; there are {SCHEME_ARGUMENT} and {KEY_ARGUMENT}")
    scheme, key_id = ours.get(SCHEME_ARGUMENT), ours.get(KEY_ARGUMENT)
    if scheme not in SCHEMES:
        raise ValueError(f"vllm_xargs: {SCHEME_ARGUMENT} must be one of {', '.join(SCHEMES)}")
    if not isinstance(key_id, str):
        raise ValueError(f"vllm_xargs: {SCHEME_ARGUMENT} needs {KEY_ARGUMENT}, the id of a mark key")
    return MarkArguments(scheme, key_id)
