"""Classifiers and models asked about a text: the models through the gateway's own engines.

What they use is the operator's: it is counted and put into the audit record, and nobody is billed for it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec

from monitoring.telemetry import PolicyMetrics
from serving.gateway.cleaning import offload
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.refusal import read_refusal
from serving.gateway.fields.engine_body import engine_body
from serving.gateway.fields.lists import CHAT
from serving.gateway.policy.calls import Call, EngineCalls
from serving.guard.classifiers import ClassifierPool
from serving.guard.policy import Ask, CheckFailed, ClassifierCheck, JudgeCheck, Principle
from serving.guard.policy.wording import ANSWERS, Messages, judge_messages, read_answer
from serving.guard.question.control import ControlTokens
from serving.http.client import UpstreamError

_MAX_ANSWER_BYTES = 1024 * 1024
_JUDGE_TOKENS = 8

T = TypeVar("T")


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decode = msgspec.json.Decoder(_Answer).decode


class ModelJudge:
    """The models that judge one request's texts: classifiers, and an engine as the judge."""

    def __init__(
        self,
        model: str,
        calls: EngineCalls,
        classifiers: Callable[[], ClassifierPool],
        tokens: ControlTokens,
        metrics: PolicyMetrics,
        tenant: str,
        cache_salt: str,
    ) -> None:
        """`tenant`: whose texts the models read; `cache_salt` is that tenant's."""
        self._tenant = tenant
        self._cache_salt = cache_salt
        self._model = model
        self.calls = calls
        self._classifiers = classifiers
        self._tokens = tokens
        self._metrics = metrics
        self.prompt_tokens = 0
        self.completion_tokens = 0

    async def offload(self, size: int, work: Callable[[], T], /) -> T:
        """Work on a text of the request, off the event loop where it is long."""
        return await offload(self._tenant, size, work)

    async def score(self, check: ClassifierCheck, text: str) -> float:
        """A classifier's score. Raises: CheckFailed."""
        pool, started = self._classifiers(), time.perf_counter()
        if check.name not in pool.names:
            raise CheckFailed(f"there is no classifier {check.name!r}")
        verdicts = await pool.scores(text, [check.name])
        self._metrics.asked("classifier", time.perf_counter() - started)
        if check.category not in verdicts.scores:
            raise CheckFailed(verdicts.failed.get(check.name, "no such category"))
        return verdicts.scores[check.category]

    @asynccontextmanager
    async def judge(self, principle: Principle, check: JudgeCheck, text: str) -> AsyncIterator[Ask]:
        """Wait until the judge may be asked whether the text breaks the principle. Raises: CheckFailed."""
        messages = judge_messages(principle.principle, check.question, text)
        model = check.model or self._model
        async with self.calls.call(model, _num_chars(messages)) as call:
            yield partial(self._judged, call, messages, model)

    async def write(self, what: str, messages: Messages, max_tokens: int) -> str:
        """The answer of the request's own model; `what` it is for is counted. Raises: CheckFailed."""
        async with self.calls.call(self._model, _num_chars(messages)) as call:
            return await self._ask(call, what, messages, self._model, max_tokens)

    async def _judged(self, call: Call, messages: Messages, model: str) -> bool:
        answer = await self._ask(call, "judge", messages, model, _JUDGE_TOKENS, structured_outputs={"choice": ANSWERS})
        said = read_answer(answer)
        if said is None:
            raise CheckFailed("the judge said neither yes nor no")
        return said

    async def _ask(self, call: Call, what: str, messages: Messages, model: str, max_tokens: int, **more: Any) -> str:
        engine, started = call.engine, time.perf_counter()

        def made() -> bytes:
            inert = [{**message, "content": self._tokens.inert(message["content"])[0]} for message in messages]
            body = {"model": model, "messages": inert, "temperature": 0, "max_tokens": max_tokens, **more}
            return engine_body(CHAT, body, engine, self._cache_salt)

        data = await self.offload(_num_chars(messages), made)
        try:
            answer = await self._answer(engine, data)
        except UpstreamError as error:
            engine.failed(str(error))
            raise CheckFailed("no engine answered") from None
        except msgspec.DecodeError:
            raise CheckFailed("the engine sent what is no answer") from None
        self._metrics.asked(what, time.perf_counter() - started)
        self._count(call, answer.usage)
        if not answer.choices:
            raise CheckFailed("the engine sent no choice")
        return answer.choices[0].message.content or ""

    async def _answer(self, engine: Engine, body: bytes) -> _Answer:
        reply = await engine.ask(CHAT.encode(), body, _MAX_ANSWER_BYTES)
        if reply.status != 200:
            engine.refused(read_refusal(reply.status, reply.retry_after))
            raise CheckFailed(f"the engine answered with status {reply.status}")
        return _decode(reply.body)

    def _count(self, call: Call, usage: _Usage) -> None:
        completion = usage.completion_tokens or 0
        call.note_tokens(usage.prompt_tokens, completion)
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += completion
        self._metrics.tokens(usage.prompt_tokens, completion)


def _num_chars(messages: Messages) -> int:
    return sum(len(message["content"]) for message in messages)
