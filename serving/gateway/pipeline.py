"""One request, top to bottom.

authenticate → understand → reserve → clean and choose the mark → judge by classifiers and policy → enter the fair
queue → ask engines and relay → settle and finish.
"""

from __future__ import annotations

import asyncio
import logging

from serving.gateway.admission.permit import Entry
from serving.gateway.context import RequestContext
from serving.gateway.errors import EngineUnavailable, GatewayError
from serving.gateway.reload import Part
from serving.gateway.stages.admit import Admit
from serving.gateway.stages.answer import Answer
from serving.gateway.stages.check import Check
from serving.gateway.stages.understand import Understand
from serving.http.asgi import Client, Receive, Send
from serving.http.errors import ClientGone

log = logging.getLogger(__name__)


class Pipeline:
    """The stages that every request passes."""

    def __init__(self, understand: Understand, admit: Admit, check: Check, answer: Answer) -> None:
        self.understand = understand
        self.admit = admit
        self.check = check
        self.answer = answer
        self._stages = (understand, admit, check, answer)

    async def start(self) -> None:
        """Open what needs a running event loop."""
        for stage in self._stages:
            await stage.start()

    async def stop(self) -> None:
        """Close everything; no request is open any more."""
        for stage in reversed(self._stages):
            await stage.stop()

    def parts(self) -> list[Part]:
        """What takes up which settings while it runs."""
        return [part for stage in self._stages for part in stage.parts()]

    async def handle(self, context: RequestContext, client: Client, receive: Receive, send: Send) -> None:
        """Answer one request. Every failure ends in OpenAI-shaped JSON; nothing is raised."""
        exchange = self.answer.begin(context, client, send)
        cancel_on_disconnect = _CancelOnDisconnect(client)
        entry: Entry | None = None
        try:
            await self.understand.authenticate(context)
            route = await self.understand.read(context, receive)
            is_checked = self.check.is_on
            entry = await self.admit.reserve(context, is_checked=is_checked)
            client.on_disconnect(cancel_on_disconnect)
            await self.check.clean(context)
            exchange.settlement.start_trace()
            review = await self.check.judge(context, entry.demand) if is_checked else None
            if review is not None and review.refused_by is not None:
                await exchange.refuse(review, review.refused_by.reason or "")
                return
            await self.admit.enter(context, entry)
            await exchange.run(route, review, entry)
            if route is not None:
                self.answer.end(context, route)
        except GatewayError as error:
            # Frames that it passed through may know it by name: a cycle, which would keep all of the request.
            error.__traceback__ = error.__context__ = None
            await exchange.fail(error)
        except ClientGone:
            await exchange.abandon()
        except asyncio.CancelledError:
            if cancel_on_disconnect.disconnected:
                await exchange.abandon()
            else:
                await exchange.fail(EngineUnavailable("The gateway is stopping. Ask again.", code="stopping"))
        except Exception:
            log.exception("unexpected failure", extra={"request_id": context.request_id})
            await exchange.fail(GatewayError("The gateway failed on this request. Its log has the request id."))
        finally:
            if entry is not None:
                entry.end(context.answer)
            exchange.close()


class _CancelOnDisconnect:
    """Cancels the request when its client closes the connection, so that the engine stops generating."""

    __slots__ = ("_client", "disconnected")

    def __init__(self, client: Client) -> None:
        self._client = client
        self.disconnected = False

    def __call__(self) -> None:
        self.disconnected = True
        self._client.cancel()
