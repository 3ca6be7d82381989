"""A stand-in engine, faster than any gateway in front of it: OpenAI-shaped, every answer built beforehand.

    python -m loadtests.tools.standin --port 9100 --core 1

`max_tokens` is the number of text chunks of a stream. By default a stream leaves in one write; with
`--step-ms 20` all running streams get one token every 20 ms, as from an engine's step.
`POST /standin/pace?step_ms=20` changes that while it runs (0: full speed), so that one stand-in serves every
workload of a benchmark. With `--max-running 32` it queues as a real engine does (`loadtests.tools.batch`).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress
from functools import partial
from typing import cast

import click
import httptools
import uvloop

from loadtests.tools.answers import (
    PROMPT_IDS,
    StreamAsked,
    StreamBytes,
    StreamEndpoint,
    error_response,
    http_response,
    models_response,
    plain_response,
    stream_response,
)
from loadtests.tools.batch import Batch, BatchCost

DEFAULT_CHUNKS = 64

# Looking for these beats decoding the JSON: the stand-in has to stay cheaper than what it measures.
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_INCLUDE_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d+)')
_TOP_LOGPROBS = re.compile(rb'"top_logprobs"\s*:\s*(\d+)')
_LOGPROBS = re.compile(rb'"logprobs"\s*:\s*true')
_TOKEN_IDS = re.compile(rb'"return_token_ids"\s*:\s*true')
_TOKEN_PROMPT = re.compile(rb'"prompt"\s*:\s*\[([\d\s,]+)\]')
_STEP_MS = re.compile(rb"step_ms=([\d.]+)")


class Stepper:
    """Gives every running stream one token per step, the way an engine does."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self._running: dict[StandInConnection, tuple[StreamBytes, int]] = {}
        self._next_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: StandInConnection, answer: StreamBytes) -> None:
        self._running[connection] = (answer, 0)
        if self._next_at is None:
            loop = asyncio.get_running_loop()
            self._next_at = loop.time() + self.step_s
            self._timer = loop.call_at(self._next_at, self._step)

    def drop(self, connection: StandInConnection) -> None:
        self._running.pop(connection, None)
        if not self._running and self._timer is not None:
            self._timer.cancel()
            self._next_at = self._timer = None

    def __len__(self) -> int:
        return len(self._running)

    def _step(self) -> None:
        for connection, (answer, position) in list(self._running.items()):
            connection.write(answer.rest[position])
            if position + 1 == len(answer.rest):
                del self._running[connection]
                connection.answered()
            else:
                self._running[connection] = (answer, position + 1)
        if not self._running:
            self._next_at = self._timer = None
            return
        loop = asyncio.get_running_loop()
        # From the planned time, not from now: the pace does not drift when a step is late.
        self._next_at = max((self._next_at or 0) + self.step_s, loop.time())
        self._timer = loop.call_at(self._next_at, self._step)


class StandIn:
    """What all connections share: the model's name, the pace, and counts for `/metrics`."""

    def __init__(
        self, model: str = "standin", step_s: float = 0.0, marks: bool = False, batch: Batch | None = None
    ) -> None:
        self.model = model
        self.batch = batch
        self.stepper = Stepper(step_s)
        self.marks = marks
        self.num_requests = 0
        self.models = models_response(model)

    def metrics(self) -> bytes:
        """The few of vLLM's metrics that a gateway reads from its engines."""
        label = f'{{model_name="{self.model}"}}'
        running = len(self.stepper) if self.batch is None else self.batch.num_running
        waiting = 0 if self.batch is None else self.batch.num_waiting
        lines = [
            f"vllm:num_requests_running{label} {running}",
            f"vllm:num_requests_waiting{label} {waiting}",
            f"vllm:kv_cache_usage_perc{label} 0",
            f"vllm:request_success_total{label} {self.num_requests}",
        ]
        if self.marks:
            lines.append('signet_engine_plugin_info{schemes="gumbel,dual-gumbel,kgw,synthid"} 1')
        return http_response("200 OK", "\n".join(lines).encode() + b"\n", "text/plain; version=0.0.4")


class StandInConnection(asyncio.Protocol):
    """One keep-alive connection. Only the parser callbacks that are needed are defined: each costs time."""

    def __init__(self, engine: StandIn) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""
        self._keep_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an assertion: uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._engine.stepper.drop(self)
        if self._engine.batch is not None:
            self._engine.batch.drop(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.write(error_response("400 Bad Request", "not HTTP", "bad_request"))
            if self._transport is not None:
                self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()
        path, _, query = self._url.partition(b"?")
        match path:
            case b"/v1/chat/completions":
                self._generate("chat")
            case b"/v1/completions":
                self._generate("completions")
            case b"/v1/responses":
                self._generate("responses")
            case b"/v1/messages":
                self._generate("messages")
            case b"/v1/models":
                self._answer(self._engine.models)
            case b"/metrics":
                self._answer(self._engine.metrics())
            case b"/health" | b"/ping" | b"/version":
                self._answer(http_response("200 OK", b'{"version":"0.0.0-standin"}'))
            case b"/standin/pace":
                self._set_pace(query)
            case _:
                self._answer(error_response("404 Not Found", "no such path", "not_found"))

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def answered(self) -> None:
        """The answer has been written to its end."""
        if not self._keep_alive and self._transport is not None:
            self._transport.close()

    def _answer(self, response: bytes) -> None:
        self.write(response)
        self.answered()

    def _generate(self, endpoint: StreamEndpoint) -> None:
        engine, body = self._engine, self._body
        engine.num_requests += 1
        if not _STREAM.search(body):
            self._answer(self._whole(endpoint))
            return
        asked = _MAX_TOKENS.search(body)
        num_chunks = max(int(asked[1]), 1) if asked else DEFAULT_CHUNKS
        # A prompt of token ids is a question and the part of its answer that another engine gave.
        given = _TOKEN_PROMPT.search(body) if endpoint == "completions" else None
        answer = stream_response(
            StreamAsked(
                engine.model,
                endpoint,
                num_chunks,
                include_usage=_INCLUDE_USAGE.search(body) is not None,
                token_ids=_TOKEN_IDS.search(body) is not None,
                top_logprobs=_top_logprobs(body) if endpoint == "chat" else None,
                start=max(0, given[1].count(b",") + 1 - len(PROMPT_IDS)) if given else 0,
            )
        )
        if engine.batch is not None:
            engine.batch.add(self, answer, len(body) // 4)
            return
        if engine.stepper.step_s == 0 or not answer.rest:
            self._answer(answer.whole)
            return
        self.write(answer.opening)
        engine.stepper.add(self, answer)

    def _whole(self, endpoint: StreamEndpoint) -> bytes:
        if endpoint == "responses" or endpoint == "messages":
            return error_response("400 Bad Request", "the stand-in streams these", "not_streamed")
        return plain_response(self._engine.model, endpoint)

    def _set_pace(self, query: bytes) -> None:
        asked = _STEP_MS.search(query)
        if asked is None:
            self._answer(error_response("400 Bad Request", "step_ms=MILLISECONDS is missing", "bad_request"))
            return
        self._engine.stepper.step_s = float(asked[1]) / 1000
        self._answer(http_response("200 OK", b"{}"))


def _top_logprobs(body: bytes) -> int | None:
    """None: no log-probabilities are asked for."""
    if not _LOGPROBS.search(body):
        return None
    asked = _TOP_LOGPROBS.search(body)
    return int(asked[1]) if asked else 0


async def serve(engine: StandIn, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stopped.set)
    server = await loop.create_server(partial(StandInConnection, engine), host, port, backlog=2048)
    click.echo(f"stand-in engine on http://{host}:{port}, model {engine.model}")
    await stopped.wait()
    server.close()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9100, show_default=True)
@click.option("--model", default="standin", show_default=True)
@click.option(
    "--step-ms",
    default=0.0,
    show_default=True,
    help="Milliseconds between tokens of a stream; 0: full speed.",
)
@click.option("--marks/--no-marks", default=False, help="Claim to have the watermark plugin, to measure that path too.")
@click.option("--max-running", type=int, help="Run so many streams at once, and queue the others as an engine does.")
@click.option("--core", type=int, help="Pin to this core.")
def main(
    host: str, port: int, model: str, step_ms: float, marks: bool, max_running: int | None, core: int | None
) -> None:
    """Run the stand-in engine."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    with suppress(KeyboardInterrupt):
        batch = None if max_running is None else Batch(BatchCost(max_running=max_running))
        uvloop.run(serve(StandIn(model, step_ms / 1000, marks, batch), host, port))


if __name__ == "__main__":
    main()
