"""One request meeting its engines: the question sent, the answer relayed, everything given back."""

from __future__ import annotations

from serving.gateway.admission.permit import Entry
from serving.gateway.answer.attempts import Attempts, EngineQuestion
from serving.gateway.answer.failover import Failover
from serving.gateway.answer.outgoing import Outgoing
from serving.gateway.answer.pump import NotBegun, interrupted
from serving.gateway.answer.room import AnswerRoom
from serving.gateway.answer.settle import Settlement
from serving.gateway.answer.stream import StreamWriter
from serving.gateway.answer.whole import refuse_question, relay_whole
from serving.gateway.context import RequestContext
from serving.gateway.engines.engine import Engine
from serving.gateway.errors import BadRequest, ContextTooLong, ControlTokenMade, EngineFailed, GatewayError
from serving.gateway.policy import PolicySteps
from serving.gateway.policy.review import Review
from serving.gateway.routing.route import Route
from serving.gateway.routing.router import Router
from serving.gateway.steps.mark import check_engines_mark
from serving.gateway.steps.question_body import question_body
from serving.http.asgi import Client, Send
from serving.http.client import UpstreamError


class Exchange:
    """One request: asks, relays the answer, and sees to it that an engine's failure costs the client none."""

    def __init__(
        self,
        context: RequestContext,
        settlement: Settlement,
        send: Send,
        client: Client,
        *,
        router: Router,
        failover: Failover,
        policy_steps: PolicySteps,
        max_bytes: int,
    ) -> None:
        self._context = context
        self.settlement = settlement
        self._client = client
        self._router = router
        self._failover = failover
        self._policy_steps = policy_steps
        self._max_bytes = max_bytes
        self._outgoing = Outgoing(context, settlement, client, send)
        self._attempts: Attempts | None = None
        self._stream: StreamWriter | None = None

    async def run(self, route: Route | None, review: Review | None, entry: Entry) -> None:
        """Ask engines until one has answered. Raises GatewayError, and ClientGone where the client has left.

        Args:
            route: where the configured name leads, if it was one.
            review: what the policy says about the request, if anything.
            entry: under which the request has been admitted.
        """
        context, permit = self._context, entry.permit
        attempts = self._attempts = Attempts(
            context, self.settlement, self._router, self._failover, route, entry.demand.slots
        )
        question = EngineQuestion(context.endpoint.target, self._body_for)
        room = AnswerRoom(self._client, context.tenant, self._max_bytes)
        self._outgoing.review = review
        if review is not None:
            review.judge.calls.use_place(attempts, permit)
        while True:
            try:
                response = await attempts.ask(question)
            except BadRequest as refusal:
                if not self._unbinds(refusal):
                    raise
                continue
            if response.header(b"content-type").startswith(b"text/event-stream"):
                self._stream = StreamWriter(
                    context,
                    self.settlement,
                    attempts,
                    self._failover.settings,
                    self._policy_steps,
                    review,
                    permit,
                    room,
                    self._outgoing,
                )
                try:
                    await self._stream.write(response, question)
                    return
                except NotBegun:
                    self._stream.forget()
                    self._stream = None
                    attempts.begin_again(interrupted())
                    continue
            try:
                await relay_whole(context, response, self.settlement, self._policy_steps, review, room, self._outgoing)
                return
            except (UpstreamError, EngineFailed) as error:
                attempts.answer_broke(str(error))

    async def refuse(self, review: Review, reason: str) -> None:
        """The policy refuses the question: the answer is its reason, and no engine is asked."""
        self._outgoing.review = review
        await refuse_question(self._context, reason, self._outgoing)

    async def fail(self, error: GatewayError) -> None:
        """End the answer with an error: JSON while nothing was sent, an error event afterwards."""
        stream = self._stream
        if stream is not None:
            stream.fail()
        await self.settlement.fail(error)
        await self._outgoing.error(error, stream.flush() if stream is not None and self._outgoing.started else b"")

    async def abandon(self) -> None:
        """The client has gone: what it was sent is counted."""
        if self._stream is not None:
            self._stream.count()
        await self.settlement.abandon()

    def close(self) -> None:
        """Give everything back."""
        if self._attempts is not None:
            self._attempts.close(self._stream is not None and self._stream.complete)
        self.settlement.close()

    def _body_for(self, engine: Engine) -> bytes:
        check_engines_mark(self._context, engine)
        context = self._context
        continues = self._failover.settings.continue_streams and context.endpoint.has_choices
        if context.question.stream and continues and engine.is_vllm(context.question.model):
            return question_body(context, engine, return_token_ids=True)
        return question_body(context, engine)

    def _unbinds(self, refusal: BadRequest) -> bool:
        """Whether to ask again without binding tools: not every schema can be made a grammar of."""
        if not self._context.question.binds_tools or isinstance(refusal, ContextTooLong | ControlTokenMade):
            return False
        self._context.question.binds_tools = False
        return True
