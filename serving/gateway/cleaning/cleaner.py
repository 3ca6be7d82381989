"""Cleans questions: small ones at once, those that could hold the event loop in a process of their own."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from serving.gateway.body import decode_object, encode
from serving.gateway.cleaning.budget import BudgetSpent, CpuBudget
from serving.gateway.cleaning.fair_semaphore import FairSemaphore
from serving.gateway.cleaning.messages import Cleaned, Job, Refused, Reply, Setup, TooCostly
from serving.gateway.cleaning.offload import on_thread
from serving.gateway.cleaning.process import CleaningProcess, ProcessDied
from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest, Overloaded
from serving.guard import Guard, GuardRefusal, GuardReport, GuardSettings
from serving.guard.question.limits import SMALL_BYTES, check_raw, is_large

log = logging.getLogger(__name__)

SLICE_S = 0.02
"""CPU time that one request's cleaning may take of the event loop; what takes longer begins anew elsewhere."""
_CERTAINLY_SHORT = 1024
"""Bytes of a body that no cleaning takes long for: measuring the time would cost more."""
_ATTEMPTS = 2
_EVERY_KIND = "Caf\u00e9 jane.doe@example.org, phone 030 901820, key=sk-1, %41 &amp; 4111 1111 1111 1111 <b> \u200b "
"""Patterns and tables are made when they are first needed, which takes longer than any small question."""


class RequestCleaning:
    """The guard of a gateway, and the processes that run it on large requests. None is started before the first."""

    def __init__(self, settings: GuardSettings, control_tokens: Iterable[str]) -> None:
        self._budget = CpuBudget.if_possible()
        # One step of a large request at a time: two would hold the event loop for as long as both take.
        self._steps = FairSemaphore(1, settings.cleaning_queue)
        self._cleaning_slots = FairSemaphore(settings.cleaning_processes, settings.cleaning_queue)
        self._idle: list[CleaningProcess] = []
        self._busy: set[CleaningProcess] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self.apply(settings, control_tokens)

    def apply(self, settings: GuardSettings, control_tokens: Iterable[str]) -> None:
        """Take on new settings; requests under way end with the old ones."""
        secret = secrets.token_bytes(16)
        tokens = sorted(control_tokens)
        self.guard = Guard(settings, tokens, secret)
        with suppress(GuardRefusal):
            self.guard.ask({"prompt": _EVERY_KIND * 20}, "completions")
        # The rest is not the guard's own: addresses and keys of services, a file.
        own = settings.model_dump_json(exclude={"classifiers", "policy"})
        self._setup = Setup(own, tokens, secret, settings.cpu_budget_s)
        self._settings = settings
        self._steps.apply(1, settings.cleaning_queue)
        self._cleaning_slots.apply(settings.cleaning_processes, settings.cleaning_queue)
        self._retire()

    async def stop(self) -> None:
        """No request is open any more."""
        self._retire()
        for process in self._busy:
            self._end(process)
        await asyncio.gather(*self._ending)

    @asynccontextmanager
    async def step(self, context: RequestContext) -> AsyncIterator[None]:
        """Alone with a body of more than `SMALL_BYTES`, which is looked at before it is decoded.

        Raises:
            BadRequest: it has more values than a request may have.
            QueueFull, Overloaded: too many such bodies wait.
        """
        async with self._steps.slot(context.tenant, len(context.raw_body)):
            try:
                await on_thread(check_raw, context.raw_body, self._settings)
            except GuardRefusal as refusal:
                raise refused(context, refusal) from None
            yield

    def clean_nowait(self, context: RequestContext) -> bool:
        """Clean a question in place; False: that takes longer than the event loop has, and nothing was done.

        Raises:
            BadRequest: it holds something that is refused rather than cleaned.
        """
        size = len(context.raw_body)
        if size <= _CERTAINLY_SHORT:
            sanitize(context, self.guard)
            return True
        if is_large(context.raw_body, context.question.body):
            return False
        if self._budget is None:
            if size > SMALL_BYTES // 8:
                return False
            sanitize(context, self.guard)
            return True
        try:
            self._budget.run(SLICE_S, lambda: sanitize(context, self.guard))
        except BudgetSpent:
            return False
        return True

    async def clean(self, context: RequestContext) -> None:
        """Clean a question in another process.

        Raises:
            BadRequest: it holds something that is refused rather than cleaned, or takes more CPU time than it may.
            QueueFull, Overloaded: too many wait for that; or the processes die.
        """
        async with self._cleaning_slots.slot(context.tenant, len(context.raw_body)):
            guard, body = await on_thread(_begin, context, self.guard)
            reply = await self._ask(Job(context.tenant, context.endpoint.name, body))
        if isinstance(reply, TooCostly):
            message = "The request takes too much computing to clean. Send less at a time, or plainer text."
            raise BadRequest(message, code="too_costly_to_clean")
        report = GuardReport()
        for what, action, count in reply.counts:
            report.add(what, action, count)
        if isinstance(reply, Refused):
            raise refused(context, GuardRefusal(reply.code, reply.message, reply.param, report))
        context.input_report = report
        # Apart from what the event loop does before and after: making and freeing so many objects takes its time.
        await on_thread(_take, context, guard, reply)

    async def _ask(self, job: Job) -> Reply:
        for _ in range(_ATTEMPTS):
            try:
                process = self._idle.pop() if self._idle else await CleaningProcess.start(self._setup)
                return await self._ask_process(process, job)
            except TimeoutError:
                return TooCostly()
            except (ProcessDied, OSError) as error:
                log.error("cleaning process died", extra={"reason": type(error).__name__})
        message = "The request could not be cleaned, and is not let through. Ask again."
        raise Overloaded(message, code="cleaning_failed", headers=((b"retry-after", b"2"),))

    async def _ask_process(self, process: CleaningProcess, job: Job) -> Reply:
        self._busy.add(process)
        reusable = False
        try:
            reply = await process.clean(job)
            reusable = process.setup is self._setup
            return reply
        finally:
            self._busy.discard(process)
            if reusable:
                self._idle.append(process)
            else:
                self._end(process)

    def _retire(self) -> None:
        for process in self._idle:
            self._end(process)
        self._idle.clear()

    def _end(self, process: CleaningProcess) -> None:
        task = asyncio.create_task(process.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _begin(context: RequestContext, guard: Guard) -> tuple[Guard, bytes]:
    return begin_cleaning(context, guard), encode(context.question.body)


def _take(context: RequestContext, guard: Guard, reply: Cleaned) -> None:
    context.question.body = decode_object(reply.body)
    context.answer_guard = guard.answers_knowing(reply.remembered, context.question.body, context.endpoint.name)


def sanitize(context: RequestContext, guard: Guard) -> RequestContext:
    """Clean the question; nothing is changed before all of it is clean.

    Raises:
        BadRequest: it holds something that is refused rather than cleaned.
    """
    body = dict(context.question.body)
    try:
        report, answers = begin_cleaning(context, guard).ask(body, context.endpoint.name)
    except GuardRefusal as refusal:
        raise refused(context, refusal) from None
    context.question.body, context.input_report, context.answer_guard = body, report, answers
    return context


def begin_cleaning(context: RequestContext, guard: Guard) -> Guard:
    """Note what is to be known of a question that is not clean yet; returns what holds for its tenant."""
    context.question.prompt_chars = context.endpoint.prompt_chars(context.question.body)
    assert context.principal is not None
    guard = guard.of_tenant(context.principal.tenant)
    context.policy_digest = guard.policy_digest
    return guard


def refused(context: RequestContext, refusal: GuardRefusal) -> BadRequest:
    """The error for a question that the guard refuses; what it did until then is counted."""
    context.input_report = refusal.report
    return BadRequest(refusal.message, code=refusal.code, param=refusal.param)
