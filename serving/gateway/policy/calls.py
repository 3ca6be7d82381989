"""Calls to engines about one request, of the gateway's own: admitted as requests are, in its tenant's name.

Before the request has its place at an engine, each of its calls waits in the fair queue, and holds nothing meanwhile.
Once its answer is complete, its calls use that place, one after the other where there is room for no more: in the
queue they would wait for requests that wait for theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from serving.gateway.admission.admission import Admission
from serving.gateway.admission.demand import Demand
from serving.gateway.admission.permit import Permit
from serving.gateway.engines.engine import Engine
from serving.gateway.errors import GatewayError
from serving.gateway.routing.router import Router
from serving.guard.policy import CheckFailed


class Place(Protocol):
    """A request's place at an engine, kept while its answer is judged."""

    @property
    def engine(self) -> Engine | None:
        """Where it is; None: there is none, or none any more."""

    def close(self) -> None:
        """Give it back."""


class Call(NamedTuple):
    """One call that may be made now. `note_tokens` is told what it took: tokens of the prompt, and of the answer."""

    engine: Engine
    note_tokens: Callable[[int, int], None]


class EngineCalls:
    """The calls about the request whose demand this is."""

    def __init__(self, admission: Admission, router: Router, demand: Demand) -> None:
        self._admission = admission
        self._router = router
        self._demand = demand
        self._place: Place | None = None
        self._permit: Permit | None = None
        self._one_at_a_time = asyncio.Lock()
        self._gives_up_place = False
        self.refused: GatewayError | None = None
        """Why the queue let a call not go."""

    def use_place(self, place: Place, permit: Permit | None) -> None:
        """From now on the request has a place of its own."""
        self._place, self._permit = place, permit

    @asynccontextmanager
    async def call(self, model: str, prompt_chars: int) -> AsyncIterator[Call]:
        """Wait until an engine may be asked for the model.

        Raises:
            CheckFailed: no engine serves it, or the queue refuses the call.
        """
        demand = self._demand.for_call(model, prompt_chars)
        own = self._own_engine(model)
        permit = self._admission.try_enter(demand) if own is None or self._one_at_a_time.locked() else None
        if own is not None and permit is None:
            async with self._one_at_a_time:
                yield Call(own, self._permit.charge if self._permit is not None else _count_nothing)
                self._close_place()
            return
        permit = permit or await self._wait(demand)
        try:
            # No await in between: what the permit stands for is still free.
            engine = self._router.choose_idlest(model, must_have_room=False)
            if engine is None:
                raise CheckFailed("no engine serves the judge")
            release = engine.occupy()
            try:
                yield Call(engine, lambda prompt, completion: permit.settle(prompt, completion, engine))
            finally:
                release()
        finally:
            permit.release()

    def _own_engine(self, model: str) -> Engine | None:
        """The engine of the request's place, if it serves the model; else the place is given back."""
        own = self._place.engine if self._place is not None else None
        if own is None or (own.available and own.serves(model)):
            return own
        # Two requests that keep places of different engines in each other's queue would wait for ever.
        self._gives_up_place = True
        if not self._one_at_a_time.locked():
            self._close_place()
        return None

    def _close_place(self) -> None:
        if self._gives_up_place and self._place is not None:
            self._place.close()
            self._place = None

    async def _wait(self, demand: Demand) -> Permit:
        try:
            return await self._admission.wait(demand)
        except GatewayError as error:
            self.refused = error
            raise CheckFailed("the queue does not let the question go") from None


def _count_nothing(prompt_tokens: int, completion_tokens: int) -> None:
    """Without admission nobody has a share."""
