"""`/metrics` of all worker processes in one answer, whichever of them is asked.

Every worker answers its siblings on a Unix socket with its own exposition. Their samples are told apart by a label
`worker`, not added up: a sum would fall when a worker is replaced, and Prometheus would take that for new counts.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from monitoring.telemetry.exposition import EOF, OPENMETRICS, TEXT, Format

log = logging.getLogger(__name__)

SIBLING_TIMEOUT_S = 1.0
# Up to the first label or the value: metric names hold neither braces nor spaces.
_SAMPLE = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?", re.MULTILINE)


class WorkerMetrics:
    """One worker's part in it.

    Args:
        registry: this worker's own metrics.
        folder: where the workers' sockets lie.
        index, count: which worker this is, of how many.
    """

    def __init__(self, registry: CollectorRegistry, folder: Path, index: int, count: int) -> None:
        self._registry = registry
        self._folder = folder
        self._index = index
        self._count = count
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Answer siblings from now on."""
        path = self._socket(self._index)
        path.unlink(missing_ok=True)  # a predecessor that was killed left it
        self._server = await asyncio.start_unix_server(self._answer, path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._socket(self._index).unlink(missing_ok=True)

    async def exposition(self, wanted: Format) -> bytes:
        """The samples of every worker that answers within `SIBLING_TIMEOUT_S`."""
        texts = await asyncio.gather(*(self._of(index, wanted) for index in range(self._count)))
        merged = await asyncio.to_thread(merge, {i: text for i, text in enumerate(texts) if text is not None})
        return merged + wanted.ending

    async def _of(self, index: int, wanted: Format) -> bytes | None:
        if index == self._index:
            return await asyncio.to_thread(wanted.write, self._registry)
        try:
            async with asyncio.timeout(SIBLING_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket(index))
                try:
                    writer.write(wanted.name.encode() + b"\n")
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            log.warning("a worker's metrics are missing", extra={"worker": index})
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            name = (await reader.readline()).strip().decode()
            wanted = OPENMETRICS if name == OPENMETRICS.name else TEXT
            writer.write(await asyncio.to_thread(wanted.write, self._registry))
            await writer.drain()
        writer.close()

    def _socket(self, index: int) -> Path:
        return self._folder / f"worker-{index}.sock"


def merge(expositions: dict[int, bytes]) -> bytes:
    """Expositions of several workers as one: samples labelled, families kept together as the formats ask.

    Of OpenMetrics the last line is left out.
    """
    families: dict[bytes, tuple[bytes, list[bytes]]] = {}
    for worker, text in expositions.items():
        for family in text.removesuffix(EOF).split(b"# HELP ")[1:]:
            about, _, rest = family.partition(b"\n")
            kind, _, samples = rest.partition(b"\n")
            name = about.partition(b" ")[0]
            head = b"# HELP " + about + b"\n" + kind + b"\n"
            families.setdefault(name, (head, []))[1].append(_labelled(samples, worker))
    return b"".join(head + b"".join(samples) for head, samples in families.values())


def _labelled(samples: bytes, worker: int) -> bytes:
    label = b'worker="%d"' % worker

    def insert(match: re.Match[bytes]) -> bytes:
        return match[1] + b"{" + label + (b"," if match[2] else b"}")

    return _SAMPLE.sub(insert, samples)
