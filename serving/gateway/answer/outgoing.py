"""What a client is sent for one request: a status and headers once, then bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from serving.gateway.answer.settle import Settlement
from serving.gateway.asgi import send_error
from serving.gateway.context import RequestContext
from serving.gateway.errors import GatewayError, LedgerDown
from serving.gateway.fields.rules import ignored_header
from serving.gateway.policy.review import Review
from serving.gateway.steps.receipt import receipt_header
from serving.http.asgi import EVENT_STREAM, JSON, Client, Message, Send, encode_headers, send_whole
from serving.ledger import LedgerUnavailable


class Outgoing:
    """The client's side of one request. Nothing that ends an answer is sent before the answer is on record."""

    def __init__(self, context: RequestContext, settlement: Settlement, client: Client, send: Send) -> None:
        self._context = context
        self._settlement = settlement
        self._client = client
        self._send = send
        self.started = False
        self.review: Review | None = None
        """What the policy says about the request, as the header tells."""

    async def commit(self) -> None:
        """Put the answer on record.

        Raises:
            LedgerDown: it cannot be; the answer is not to be released.
        """
        try:
            await self._settlement.commit()
        except LedgerUnavailable:
            raise LedgerDown("The answer could not be recorded, so it is not released. Try again later.") from None

    async def whole(self, body: bytes) -> None:
        """An answer in one piece, which is on record."""
        await send_whole(self._send, 200, body, [JSON, *self._headers(), *receipt_header(self._context)])

    def piece(self, data: bytes) -> Awaitable[None]:
        """A part of a stream that is not its last."""
        return self._stream_on({"type": "http.response.body", "body": data, "more_body": True})

    @property
    def may_write(self) -> bool:
        """Whether `write` has nothing to wait for."""
        return self.started and self._client.may_write

    def write(self, data: bytes) -> None:
        """As `piece`, from a callback of the event loop."""
        self._client.write(data)

    def last(self, data: bytes) -> Awaitable[None]:
        """The end of a stream, which is on record."""
        return self._stream_on({"type": "http.response.body", "body": data})

    async def error(self, error: GatewayError, unsent: bytes = b"") -> None:
        """JSON while nothing was sent, an error event afterwards, behind what of the stream may still be sent."""
        body = self._context.error_body(error)
        if not self.started:
            await send_error(self._send, error, self._headers(), body)
            return
        await self._send({"type": "http.response.body", "body": unsent + self._context.error_event(error)})

    def _stream_on(self, message: Message) -> Awaitable[None]:
        # Of hundreds of pieces one starts the stream: the others need no coroutine of their own.
        return self._send(message) if self.started else self._start_stream(message)

    async def _start_stream(self, first: Message) -> None:
        self.started = True
        headers = [*EVENT_STREAM, *self._headers()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(first)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        context = self._context
        headers = [(b"x-request-id", context.request_id.encode())]
        if context.lease is not None:
            headers += encode_headers(context.lease.headers)
        if context.question.ignored_fields:
            headers.append((b"x-signet-ignored-fields", ignored_header(context.question.ignored_fields)))
        if context.answer.engine is not None:
            headers.append((b"x-signet-mark", context.mark.header()))
        if self.review is not None:
            headers += self.review.header()
        return headers


def joined(events: Iterable[bytes]) -> bytes:
    """Events as they go over the wire."""
    return b"".join(event + b"\n\n" for event in events)
