"""ASGI's lifespan protocol: the application is told when the server starts and stops."""

from __future__ import annotations

import asyncio

from serving.http.asgi import AsgiApp, Message


class Lifespan:
    """One application's start and stop."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises RuntimeError when the application does not start; what it raised itself goes on as it is."""
        self._task = asyncio.ensure_future(self._run())
        await self._tell("startup")

    async def stop(self) -> None:
        """Returns when the application has stopped."""
        if self._task is not None and not self._task.done():
            await self._tell("shutdown")
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _tell(self, what: str) -> None:
        assert self._task is not None
        self._to_app.put_nowait({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(self._from_app.get())
        done, _ = await asyncio.wait({self._task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if answer not in done:
            answer.cancel()
            await self._task  # raises what the application raised
        elif answer.result()["type"].endswith(".failed"):
            raise RuntimeError(answer.result().get("message") or f"the application failed at its {what}")
