"""A load client on bare asyncio protocols and httptools: cheap enough to be slower than nothing it measures.

    python -m loadtests.tools.client --url http://127.0.0.1:9100 --connections 32 [--stream 64] [--rate 500]

Closed loop: every connection sends its next request when its answer is complete. Paced (`rate`): requests
leave at planned times, on whichever connection is free, and are timed from the planned moment, so that a
server that stalls is charged for the requests that had to wait.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

import click
import httptools
import uvloop

from loadtests.tools.figures import percentile

# The first event that carries text: a role event alone is no token.
_FIRST_TEXT = re.compile(rb'"(?:content|text)":\s*"[^"]')
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_LAST_EVENT = re.compile(rb"^(?:data: \[DONE\]|event: message_stop|event: response\.completed)", re.MULTILINE)
_TAIL_BYTES = 2048  # enough for the last text event, the usage event and [DONE]


@dataclass
class Measurement:
    """What one run saw. Times in seconds.

    `first_events` are to a stream's first event, `ttfts` to its first text, `gaps` between events from there on.
    """

    wall_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    num_events: int = 0
    num_tokens: int = 0
    num_bytes: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def num_completed(self) -> int:
        return len(self.latencies)

    def add(self, other: Measurement) -> None:
        """Take in a run that followed this one."""
        self.wall_s += other.wall_s
        self.latencies += other.latencies
        self.first_events += other.first_events
        self.ttfts += other.ttfts
        self.gaps += other.gaps
        self.num_events += other.num_events
        self.num_tokens += other.num_tokens
        self.num_bytes += other.num_bytes
        self.errors += other.errors

    def summary(self) -> dict[str, float]:
        """The usual figures: milliseconds, and rates per second."""
        wall = self.wall_s or math.nan
        return {
            "requests_per_s": self.num_completed / wall,
            "events_per_s": self.num_events / wall,
            "tokens_per_s": self.num_tokens / wall,
            "latency_p50_ms": 1000 * percentile(self.latencies, 50),
            "latency_p99_ms": 1000 * percentile(self.latencies, 99),
            "first_event_p50_ms": 1000 * percentile(self.first_events, 50),
            "first_event_p99_ms": 1000 * percentile(self.first_events, 99),
            "ttft_p50_ms": 1000 * percentile(self.ttfts, 50),
            "ttft_p99_ms": 1000 * percentile(self.ttfts, 99),
            "gap_p50_ms": 1000 * percentile(self.gaps, 50),
            "gap_p99_ms": 1000 * percentile(self.gaps, 99),
            "errors": sum(self.errors.values()),
        }


class _Run:
    """One run in progress: decides who sends what next, and until when."""

    def __init__(self, requests: Sequence[bytes], total: int | None, rate: float | None) -> None:
        self.seen = Measurement()
        self.done = asyncio.Event()
        self.open_loop = rate is not None
        self._requests = cycle(requests)
        self._left = total
        self._in_flight = 0
        self._stopping = False
        self.idle: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()

    def stop(self) -> None:
        """Send nothing more; `done` is set when the requests under way are answered."""
        self._stopping = True
        if self._waiting:
            self.seen.errors["not sent in time"] += len(self._waiting)
            self._waiting.clear()
        if not self._in_flight:
            self.done.set()

    def next_request(self) -> bytes | None:
        """The next request's bytes, or None when this run has sent all it will."""
        if self._stopping or self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        self._in_flight += 1
        return next(self._requests)

    def finished_one(self) -> None:
        self._in_flight -= 1
        if not self._in_flight and (self._stopping or self._left == 0):
            self.done.set()

    def free(self, connection: _Connection) -> None:
        """A connection has nothing to do: take the longest-waiting planned request, or rest."""
        if not self.open_loop:
            connection.send_next(self, time.perf_counter())
        elif self._waiting:
            connection.send_next(self, self._waiting.popleft())
        else:
            self.idle.append(connection)

    def planned(self, at: float) -> None:
        """A planned moment has come."""
        if self.idle:
            self.idle.popleft().send_next(self, at)
        else:
            self._waiting.append(at)


class _Connection(asyncio.Protocol):
    """One keep-alive connection and the answer it is reading."""

    def __init__(self, client: LoadClient) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._run: _Run | None = None
        self._reset(0.0)

    def _reset(self, started: float) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._started = started
        self._answering = False
        self._last_event = math.nan
        self._body = b""
        self._stream = False
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an assertion: uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._busy:
            self._fail("connection lost")

    def send_next(self, run: _Run, started: float) -> None:
        """Send the run's next request, if there is one; its time counts from `started`."""
        request = run.next_request()
        if request is None:
            return
        self._reset(started)
        self._run, self._busy = run, True
        if self._transport is None:
            self._client.reconnect(self, request)
        else:
            self._transport.write(request)

    def send_on_new_connection(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    def could_not_connect(self) -> None:
        self._fail("cannot connect")

    def time_out(self, run: _Run) -> None:
        if self._run is run:
            self._fail("timeout")

    def close(self) -> None:
        self._busy = False
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not HTTP")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if value.startswith(b"text/event-stream"):
            self._stream = True

    def on_body(self, body: bytes) -> None:
        run = self._run
        if run is None:
            return
        run.seen.num_bytes += len(body)
        if not self._stream:
            self._body += body
            return
        # An event's end may be cut between its two newlines: look at it together with the byte before.
        num_events = body.count(b"\n\n") + (body[:1] == b"\n" == self._body[-1:])
        self._body = (self._body + body)[-_TAIL_BYTES:]
        if num_events:
            self._saw_events(run.seen, num_events)

    def _saw_events(self, seen: Measurement, num_events: int) -> None:
        seen.num_events += num_events
        if not self._answering:
            self._answering = True
            seen.first_events.append(self._now - self._started)
        if math.isnan(self._last_event):
            if not _FIRST_TEXT.search(self._body):
                return
            seen.ttfts.append(self._now - self._started)
            seen.gaps.extend([0.0] * (num_events - 1))
        else:
            seen.gaps.append(self._now - self._last_event)
            seen.gaps.extend([0.0] * (num_events - 1))
        self._last_event = self._now

    def on_message_complete(self) -> None:
        if not self._busy or self._run is None:
            return
        status = self._parser.get_status_code()
        if status != 200:
            self._finish(f"status {status}")
        elif self._stream and not _LAST_EVENT.search(self._body):
            self._finish("no last event")
        else:
            self._finish(None)

    def _fail(self, reason: str) -> None:
        if self._busy:
            self._finish(reason)

    def _finish(self, error: str | None) -> None:
        run = self._run
        assert run is not None
        self._busy = False
        if error is None:
            run.seen.latencies.append(self._now - self._started)
            tokens = _COMPLETION_TOKENS.findall(self._body)
            run.seen.num_tokens += int(tokens[-1]) if tokens else 0
            if not self._parser.should_keep_alive():
                self._abandon()
        else:
            run.seen.errors[error] += 1
            self._abandon()
        run.finished_one()
        # Not from inside the parser's callback: the next request replaces the parser.
        asyncio.get_running_loop().call_soon(run.free, self)

    def _abandon(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class LoadClient:
    """N keep-alive connections to one server. Use as an async context manager; runs follow one another."""

    def __init__(self, url: str, connections: int, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// URL")
        self.host, self.port = parts.hostname, parts.port or 80
        self._headers = dict(headers or {})
        self._connections = [_Connection(self) for _ in range(connections)]
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> LoadClient:
        for connection in self._connections:
            await self._connect(connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._reconnecting:
            task.cancel()
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)  # lets the transports close

    async def run(
        self,
        path: str,
        bodies: Sequence[Mapping[str, Any]],
        *,
        seconds: float | None = None,
        total: int | None = None,
        rate: float | None = None,
        timeout_s: float = 60.0,
    ) -> Measurement:
        """Send the bodies in turn until `seconds` have passed or `total` were sent, and await the answers.

        `rate` (requests per second over all connections) plans the requests; without it the loop is closed.
        What is not answered `timeout_s` after the last request counts as an error.
        """
        if seconds is None and total is None:
            raise ValueError("a run needs an end: seconds or total")
        run = _Run([self._request(path, body) for body in bodies], total, rate)
        started = time.perf_counter()
        for connection in self._connections:
            run.free(connection)
        pacing = asyncio.create_task(self._plan(run, rate, started)) if rate else None
        try:
            await asyncio.wait_for(run.done.wait(), seconds)
        except TimeoutError:
            run.stop()
            await self._wait_for_answers(run, timeout_s)
        finally:
            if pacing is not None:
                pacing.cancel()
        run.seen.wall_s = time.perf_counter() - started
        return run.seen

    def reconnect(self, connection: _Connection, request: bytes) -> None:
        """Connect again in the background, then send `request`."""
        task = asyncio.get_running_loop().create_task(self._reconnect(connection, request))
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    async def _reconnect(self, connection: _Connection, request: bytes) -> None:
        try:
            await self._connect(connection)
        except OSError:
            await asyncio.sleep(0.05)  # a server that refuses must not turn the closed loop into a busy one
            connection.could_not_connect()
        else:
            connection.send_on_new_connection(request)

    async def _connect(self, connection: _Connection) -> None:
        await asyncio.get_running_loop().create_connection(lambda: connection, self.host, self.port)

    async def _wait_for_answers(self, run: _Run, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(run.done.wait(), timeout_s)
        except TimeoutError:
            for connection in self._connections:
                connection.time_out(run)

    async def _plan(self, run: _Run, rate: float, started: float) -> None:
        planned = 0
        while True:
            due = int((time.perf_counter() - started) * rate)
            for number in range(planned, due):
                run.planned(started + number / rate)
            planned = max(planned, due)
            # Never finer than a millisecond: at high rates several requests leave together instead.
            await asyncio.sleep(max((planned + 1) / rate - (time.perf_counter() - started), 0.001))

    def _request(self, path: str, body: Mapping[str, Any]) -> bytes:
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"host": f"{self.host}:{self.port}", "content-type": "application/json", **self._headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        lines.append(f"content-length: {len(content)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def chat_body(
    num_chunks: int | None, model: str = "standin", prompt: str = "Tell me about the river."
) -> dict[str, Any]:
    """A chat request; streamed with `num_chunks` tokens and usage, or not streamed where that is None."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    if num_chunks is not None:
        body |= {"stream": True, "max_tokens": num_chunks, "stream_options": {"include_usage": True}}
    return body


@click.command()
@click.option("--url", required=True, help="The server, as http://HOST:PORT.")
@click.option("--path", default="/v1/chat/completions", show_default=True)
@click.option("--model", default="standin", show_default=True)
@click.option("--key", help="An API key.")
@click.option("--connections", default=1, show_default=True)
@click.option("--seconds", default=3.0, show_default=True)
@click.option("--rate", type=float, help="Requests per second; without it the loop is closed.")
@click.option("--stream", "num_chunks", type=int, help="Stream this many tokens.")
def main(
    url: str,
    path: str,
    model: str,
    key: str | None,
    connections: int,
    seconds: float,
    rate: float | None,
    num_chunks: int | None,
) -> None:
    """Load one server and print what was measured, as JSON."""
    headers = {"authorization": f"Bearer {key}"} if key else {}

    async def measure() -> Measurement:
        async with LoadClient(url, connections, headers) as client:
            return await client.run(path, [chat_body(num_chunks, model)], seconds=seconds, rate=rate)

    try:
        seen = uvloop.run(measure())
    except OSError as error:
        raise click.ClickException(f"nothing answers at {url}: {error}") from error
    click.echo(json.dumps(seen.summary() | {"errors": dict(seen.errors)}, indent=2))


if __name__ == "__main__":
    main()
