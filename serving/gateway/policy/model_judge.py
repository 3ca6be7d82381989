"""Classifiers and models asked about a text: the models through the gateway's own engines.

What they use is the operator's: it is counted and put into the audit record, and nobody is billed for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from monitoring.telemetry import PolicyMetrics
from serving.gateway.cleaning import offload
from serving.gateway.engines.engine import Engine
from serving.gateway.engines.pool import EnginePool
from serving.gateway.engines.refusal import read_refusal
from serving.gateway.fields.engine_body import engine_body
from serving.gateway.fields.lists import CHAT
from serving.guard.classifiers import ClassifierPool
from serving.guard.policy import CheckFailed, ClassifierCheck, JudgeCheck, Principle
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
        pool: EnginePool,
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
        self._pool = pool
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

    async def judge(self, principle: Principle, check: JudgeCheck, text: str) -> bool:
        """Whether the judge says yes. Raises: CheckFailed."""
        messages = judge_messages(principle.principle, check.question, text)
        more = {"structured_outputs": {"choice": ANSWERS}}
        said = read_answer(await self.write("judge", messages, _JUDGE_TOKENS, check.model, more))
        if said is None:
            raise CheckFailed("the judge said neither yes nor no")
        return said

    async def write(
        self, what: str, messages: Messages, max_tokens: int, model: str | None = None, more: Mapping[str, Any] = {}
    ) -> str:
        """A model's answer; `what` it is for is counted. Raises: CheckFailed."""
        name = model or self._model
        engine, started = self._engine_for(name), time.perf_counter()

        def made() -> bytes:
            inert = [{**message, "content": self._tokens.inert(message["content"])[0]} for message in messages]
            body = {"model": name, "messages": inert, "temperature": 0, "max_tokens": max_tokens, **more}
            return engine_body(CHAT, body, engine, self._cache_salt)

        data = await self.offload(sum(len(message["content"]) for message in messages), made)
        release = engine.occupy()
        try:
            answer = await self._answer(engine, data)
        except UpstreamError as error:
            engine.failed(str(error))
            raise CheckFailed("no engine answered") from None
        except msgspec.DecodeError:
            raise CheckFailed("the engine sent what is no answer") from None
        finally:
            release()
        self._metrics.asked(what, time.perf_counter() - started)
        self._count(answer.usage)
        if not answer.choices:
            raise CheckFailed("the engine sent no choice")
        return answer.choices[0].message.content or ""

    def _engine_for(self, model: str) -> Engine:
        fit = [
            engine
            for engine in self._pool.engines
            if engine.available and engine.serves(model) and engine.circuit.state == "closed"
        ]
        if not fit:
            raise CheckFailed("no engine serves the judge")
        return min(fit, key=lambda engine: engine.load)

    async def _answer(self, engine: Engine, body: bytes) -> _Answer:
        reply = await engine.ask(CHAT.encode(), body, _MAX_ANSWER_BYTES)
        if reply.status != 200:
            engine.refused(read_refusal(reply.status, reply.retry_after))
            raise CheckFailed(f"the engine answered with status {reply.status}")
        return _decode(reply.body)

    def _count(self, usage: _Usage) -> None:
        completion = usage.completion_tokens or 0
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += completion
        self._metrics.tokens(usage.prompt_tokens, completion)
