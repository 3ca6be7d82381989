"""Which of several engines: one cost for each, in characters of prompt to prefill because of the choice.

    cost = load * load_chars + pending_prefill_chars - credit

`load` is the answers that the engine works on, `pending_prefill_chars` the uncached characters of prompts that wait
for their prefill there. `credit` is what the engine need not prefill again: the part of the prompt that this gateway
has sent there before, or half of the prompt where the engine is the prompt's *home*. Rendezvous hashing finds the
home, so replicas agree on it without talking, and few prompts move when engines come and go. A prompt used by a large
share of the traffic has as many homes as it needs, in the spirit of consistent hashing with bounded loads (Mirrokni,
Thorup, Zadimoghaddam, 2016). An engine whose load is above `balance` times the mean gets no credit at all, as in
SGLang's cache-aware router, so that no prompt, however popular, makes a queue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from serving.gateway.engines.seen import SeenPrefixes
from serving.gateway.routing.prompt import Prompt
from serving.gateway.routing.rendezvous import weight
from serving.gateway.settings.routing import RoutingSettings

# Under so few answers an engine is not overloaded, whatever the mean.
SLACK = 2
# Part of a prompt taken to be cached at its home when this gateway has not sent it there: another replica may have.
HOME_SHARE = 0.5
# Requests over which the share of a prompt in the traffic is taken: halved when full, so that the past fades.
SHARE_WINDOW = 2048
# Until so many were seen, no prompt counts as popular.
SHARE_PRIOR = 32


class Candidate(Protocol):
    """What the score asks of an engine. `seed` stands for its name, the same in every replica."""

    @property
    def load(self) -> float: ...

    @property
    def pending_prefill_chars(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def seen(self) -> SeenPrefixes: ...


C = TypeVar("C", bound=Candidate)


def note_sent(chosen: Candidate, prompt: Prompt | None) -> int:
    """Note that the prompt goes to `chosen`; returns how many of its characters are not cached there."""
    if prompt is None:
        return 0
    uncached_chars = prompt.chars - prompt.chars_seen(chosen.seen)
    chosen.seen.note(prompt.chain)
    return uncached_chars


class Placement:
    """Chooses among candidates, and remembers how popular each prompt's root is. Bounded memory."""

    def __init__(self, settings: RoutingSettings) -> None:
        self.settings = settings
        self._uses: dict[int, int] = {}
        self._total = 0
        self._first = 0

    def choose(self, candidates: Sequence[C], prompt: Prompt | None, session: int | None) -> C:
        """The candidate of the least cost. Equal ones take turns."""
        count = len(candidates)
        loads = [candidate.load for candidate in candidates]
        home = self._home(candidates, prompt, session)
        settings = self.settings
        ceiling = sum(loads) / count * settings.balance + SLACK
        self._first = first = (self._first + 1) % count
        best, lowest = candidates[first], math.inf
        for index in range(first - count, first):
            candidate, load = candidates[index], loads[index]
            cost = load * settings.load_chars + candidate.pending_prefill_chars
            if load <= ceiling:
                if session is not None and candidate is home:
                    cost -= settings.session_chars
                if prompt is not None:
                    cost -= self._cached(candidate, prompt, candidate is home)
            if cost < lowest:
                best, lowest = candidate, cost
        return best

    def _cached(self, candidate: Candidate, prompt: Prompt, is_home: bool) -> float:
        seen = prompt.chars_seen(candidate.seen)
        return max(seen, prompt.chars * HOME_SHARE) if is_home else seen

    def _home(self, candidates: Sequence[C], prompt: Prompt | None, session: int | None) -> C | None:
        """The home: a session's by its name, else a conversation's among those of its root."""
        if session is not None:
            return max(candidates, key=lambda candidate: weight(session, candidate.seed))
        if prompt is None:
            return None
        root, conversation = prompt.root, prompt.conversation
        wanted = math.ceil(self._share(root) * len(candidates) * self.settings.balance)
        if wanted <= 1:
            return max(candidates, key=lambda candidate: weight(root, candidate.seed))
        ranked = sorted(candidates, key=lambda candidate: weight(root, candidate.seed), reverse=True)
        return max(ranked[:wanted], key=lambda candidate: weight(conversation, candidate.seed))

    def _share(self, root: int) -> float:
        """Part of the recent traffic that has this root; counts this request."""
        uses = self._uses
        uses[root] = count = uses.get(root, 0) + 1
        self._total += 1
        if self._total >= SHARE_WINDOW:
            self._uses = {key: count // 2 for key, count in uses.items() if count > 1}
            self._total = sum(self._uses.values())
        return count / (self._total + SHARE_PRIOR)
