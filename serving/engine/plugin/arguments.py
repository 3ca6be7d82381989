"""What a request may tell the plugin: `vllm_xargs = {"signet_mark": SCHEME, "signet_key": PERMIT}`.

A permit is KEY_ID.MAC, which only a holder of the keyring can make (`MarkKey.permit`).

A request that goes on with an answer begun elsewhere adds `"signet_answer_start"`: how many of its prompt's tokens
came before the answer. What follows them is the part that was sent, and the mark goes on as if it had been made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.provenance.schemes import SCHEMES as READABLE
from serving.provenance.schemes import lefthash

SCHEMES = (*READABLE, lefthash.NAME)
GREEN_SCHEMES = frozenset({"kgw", lefthash.NAME})
"""Those that change logits before the choice; the others choose."""
SCHEME_ARGUMENT, KEY_ARGUMENT, START_ARGUMENT = "signet_mark", "signet_key", "signet_answer_start"
PREFIX = "signet_"


@dataclass(frozen=True, slots=True)
class MarkArguments:
    """A request for a mark; the permit has a permit's type, and nothing more is known of it."""

    scheme: str
    permit: str
    answer_start: int | None = None

    @property
    def key_id(self) -> str:
        return self.permit.partition(".")[0]

    def sent(self, prompt: list[int] | None) -> list[int]:
        """What of the prompt is the answer's beginning, made elsewhere."""
        return prompt[self.answer_start :] if prompt and self.answer_start is not None else []


def mark_arguments(extra_args: Mapping[str, Any] | None) -> MarkArguments | None:
    """The mark asked for, None where none is. Raises ValueError with a line for the client."""
    ours = {name: value for name, value in (extra_args or {}).items() if name.startswith(PREFIX)}
    if not ours:
        return None
    unknown = sorted(ours.keys() - {SCHEME_ARGUMENT, KEY_ARGUMENT, START_ARGUMENT})
    if unknown:
        known = f"{SCHEME_ARGUMENT}, {KEY_ARGUMENT} and {START_ARGUMENT}"
        raise ValueError(f"vllm_xargs: {unknown[0]} is unknown; there are {known}")
    scheme, permit = ours.get(SCHEME_ARGUMENT), ours.get(KEY_ARGUMENT)
    if scheme not in SCHEMES:
        raise ValueError(f"vllm_xargs: {SCHEME_ARGUMENT} must be one of {', '.join(SCHEMES)}")
    if not isinstance(permit, str):
        raise ValueError(f"vllm_xargs: {SCHEME_ARGUMENT} needs {KEY_ARGUMENT}, the permit of a mark key")
    start = ours.get(START_ARGUMENT)
    if start is not None and (type(start) is not int or start < 0):
        raise ValueError(f"vllm_xargs: {START_ARGUMENT} must be a number of tokens")
    return MarkArguments(scheme, permit, start)
