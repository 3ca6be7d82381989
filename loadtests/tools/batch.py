"""How the stand-in engine queues when it is to queue like a real one: a limited batch behind a first-come queue.

Every step gives each running stream one token and, where one is admitted, prefills prompts out of a token budget; it
takes a base time and some more for each stream and each prefilled token, as a batch on an accelerator does. What does
not fit waits inside the engine, without bound.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from loadtests.tools.answers import StreamBytes


class Listener(Protocol):
    """The connection that an answer goes to."""

    def write(self, data: bytes) -> None: ...
    def answered(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Seconds of a step: in any case, for each stream in it, for each prompt token; and what limits it."""

    base_s: float = 0.020
    per_stream_s: float = 0.0001
    per_prompt_token_s: float = 0.00002
    max_running: int = 32
    max_prompt_tokens: int = 2048


class Batch:
    """The running streams and those that wait for a place."""

    def __init__(self, cost: BatchCost) -> None:
        self.cost = cost
        self._waiting: OrderedDict[Listener, tuple[StreamBytes, int]] = OrderedDict()
        self._running: dict[Listener, tuple[StreamBytes, int]] = {}
        self._stepping = False

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def add(self, listener: Listener, answer: StreamBytes, prompt_tokens: int) -> None:
        self._waiting[listener] = (answer, prompt_tokens)
        if not self._stepping:
            self._stepping = True
            self._begin_step()

    def drop(self, listener: Listener) -> None:
        """The client has gone."""
        self._waiting.pop(listener, None)
        self._running.pop(listener, None)

    def _begin_step(self) -> None:
        """Admit what fits and plan the step's end."""
        cost, budget = self.cost, self.cost.max_prompt_tokens
        while self._waiting and len(self._running) < cost.max_running and budget > 0:
            listener, (answer, prompt_tokens) = self._waiting.popitem(last=False)
            self._running[listener] = (answer, -1)
            budget -= prompt_tokens
        prefilled = cost.max_prompt_tokens - budget
        lasts = cost.base_s + cost.per_stream_s * len(self._running) + cost.per_prompt_token_s * prefilled
        asyncio.get_running_loop().call_later(lasts, self._end_step)

    def _end_step(self) -> None:
        for listener, (answer, position) in list(self._running.items()):
            listener.write(answer.opening if position < 0 else answer.rest[position])
            if position + 1 == len(answer.rest):
                self._running.pop(listener, None)
                listener.answered()
            elif listener in self._running:
                self._running[listener] = (answer, position + 1)
        if self._running or self._waiting:
            self._begin_step()
        else:
            self._stepping = False
