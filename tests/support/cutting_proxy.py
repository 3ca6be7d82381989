"""A proxy before a real engine that cuts a stream after so many bytes, as the death of the engine would."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from tests.support.threaded_server import ThreadedServer


class CuttingProxy(ThreadedServer):
    """Passes bytes on; with `cut_after` set, the next stream is cut there and the setting cleared."""

    def __init__(self, engine_url: str) -> None:
        parts = urlsplit(engine_url)
        self._target = parts.hostname, parts.port
        self.cut_after: int | None = None
        self.num_cut = 0
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        onward = asyncio.create_task(self._copy(reader, up_writer))
        try:
            await self._copy_back(up_reader, writer)
        except ConnectionError:
            pass
        finally:
            onward.cancel()
            up_writer.close()
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        in_stream = 0
        while data := await reader.read(65536):
            in_stream = in_stream + len(data) if in_stream or b"text/event-stream" in data else 0
            if self.cut_after is not None and in_stream > self.cut_after:
                writer.write(data[: len(data) - (in_stream - self.cut_after)])
                await writer.drain()
                self.cut_after = None
                self.num_cut += 1
                return
            if data.endswith(b"0\r\n\r\n"):
                in_stream = 0
            writer.write(data)
            await writer.drain()
