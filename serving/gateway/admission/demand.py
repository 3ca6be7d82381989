"""One call to an engine, as admission knows it: whose it is, how urgent, and how large."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serving.gateway.engines.seen import CHARS_PER_TOKEN

# 8,192 tokens, the window of many models that embed.
_CHARS_PER_SLOT = 8192 * CHARS_PER_TOKEN


@dataclass(slots=True)
class Demand:
    """What one call asks of the queue.

    `slots` is how much of an engine's room it takes, `deadline` when (`time.perf_counter`) its answer must have begun.
    """

    tenant: str
    weight: float
    model: str
    priority: int = 0
    slots: int = 1
    prompt_chars: int = 0
    deadline: float | None = None
    is_part: bool = False
    """A part of a request which is expected already: the bounds of the queue do not count it."""

    def measure(self, prompt_chars: int, *, is_embedding: bool) -> None:
        """Note the prompt's length, which is known once it has been cleaned.

        A request takes a slot for each sequence; embeddings take one for what a model usually reads at once, so that
        many short texts are one and long ones are not.
        """
        self.prompt_chars = prompt_chars
        if is_embedding:
            self.slots = max(1, prompt_chars // _CHARS_PER_SLOT)

    def for_call(self, model: str, prompt_chars: int) -> Demand:
        """What a call about this request asks, of the gateway's own, in the same tenant's name."""
        return replace(self, model=model, slots=1, prompt_chars=prompt_chars, is_part=True)
