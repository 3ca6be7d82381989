"""Shadow traffic: a copy of an answered request goes to another model, to compare; the answer is thrown away.

A copy is sent when its client has its own answer, so it can delay none. It is not in the ledger, not billed, not
marked, and not retried.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any, Protocol

import msgspec

from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.fields.engine_body import engine_body
from serving.gateway.routing.router import Router
from serving.gateway.settings.routing import ShadowSettings
from serving.http.client import UpstreamError

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
# A copy's answer comes in one piece, and carries nothing of ours.
_LEFT_OUT = ("stream", "stream_options", "vllm_xargs", "return_token_ids")


class ShadowMetrics(Protocol):
    """Where comparisons are counted."""

    def shadow(self, model: str, shadow: str, outcome: str) -> None: ...

    def shadow_compared(self, model: str, shadow: str, length_ratio: float, same_finish: bool) -> None: ...


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Answer).decode


class Shadows:
    """Sends copies and compares. Bounded: what is too much is left out, and counted."""

    def __init__(self, router: Router, metrics: ShadowMetrics) -> None:
        self._router = router
        self._metrics = metrics
        self._tasks: dict[asyncio.Task[None], str] = {}

    def answered(self, context: RequestContext, shadow: ShadowSettings) -> None:
        """A request whose model has a shadow was answered: send a copy when its turn has come. Returns at once."""
        # Several answers to one question have no one text to compare.
        question = context.question
        if question.choices != 1 or random.random() >= shadow.share:  # noqa: S311
            return
        name = question.asked_model
        # A copy has no claim on a slot that a request may want.
        engine = self._router.choose_idlest(shadow.target, must_have_room=True)
        under_way = sum(model == name for model in self._tasks.values())
        if engine is None or under_way >= shadow.max_concurrent:
            self._metrics.shadow(name, shadow.target, "skipped")
            return
        body = {field: value for field, value in question.body.items() if field not in _LEFT_OUT}
        data = engine_body(context.endpoint.path, {**body, "model": shadow.target}, engine, question.cache_salt)
        task = asyncio.create_task(self._compare(context, shadow, engine, data))
        self._tasks[task] = name
        task.add_done_callback(lambda done: self._tasks.pop(done))

    async def stop(self) -> None:
        """Give up the copies under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compare(self, context: RequestContext, shadow: ShadowSettings, engine: Engine, data: bytes) -> None:
        answer = context.answer
        name = context.question.asked_model
        release = engine.occupy()
        try:
            async with asyncio.timeout(shadow.timeout_s):
                choice = await self._ask(context.endpoint.target, engine, data)
        except (UpstreamError, TimeoutError, msgspec.DecodeError, ValueError) as error:
            self._metrics.shadow(name, shadow.target, "failed")
            log.info("no shadow answer", extra={"engine": engine.name, "reason": type(error).__name__})
            return
        finally:
            release()
        text = (choice.message.content if choice.message is not None else choice.text) or ""
        # The beginning and the length stand for the whole: no answer is kept only to be compared.
        same = len(text) == answer.chars and text.startswith(answer.start)
        self._metrics.shadow(name, shadow.target, "same" if same else "different")
        ratio = (len(text) + 1) / (answer.chars + 1)
        self._metrics.shadow_compared(name, shadow.target, ratio, choice.finish_reason == answer.finish_reason)

    async def _ask(self, target: bytes, engine: Engine, data: bytes) -> Any:
        reply = await engine.ask(target, data, MAX_ANSWER_BYTES)
        if reply.status != 200:
            raise ValueError(f"status {reply.status}")
        answer = _decode(reply.body)
        if not answer.choices:
            raise ValueError("no choices")
        return answer.choices[0]
