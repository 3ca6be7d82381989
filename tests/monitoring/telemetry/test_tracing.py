"""Traces: by the conventions, without text, and never in the way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes, url_attributes
from opentelemetry.trace import SpanKind, StatusCode

from monitoring.telemetry import TelemetrySettings, Tracing, genai, open_tracing
from monitoring.telemetry.otel import ExportedTracing
from tests.support import observed
from tests.support.observed import Endpoint
from tests.support.running import wait_until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01".encode()
PROMPT = "my neighbour Hortense Quigley has a rash"


@dataclass
class Named(observed.Named):
    name: str = "http://user:hunter2@engine-0:8100"


@dataclass
class Request(observed.Request):
    principal: observed.Named | None = field(default_factory=Named)
    engine: observed.Named | None = field(default_factory=Named)
    created_at: float = field(default_factory=time.time)
    first_token_at: float = 10.25


def answer(tracing: Tracing, request: Request, status: int = 200) -> dict[bytes, bytes]:
    """A request's way through the gateway; returns what the engine is sent."""
    trace = tracing.start_request(request)
    sent = dict(tracing.outgoing_headers(request, trace))
    tracing.finish_request(request, trace, status)
    return sent


def spans_of(request: Request, status: int = 200, **settings: Any) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = ExportedTracing(TelemetrySettings(**settings), exporter)
    answer(tracing, request, status)
    spans = exported(tracing, exporter)
    return sorted(spans, key=lambda span: span.kind.value)


def exported(tracing: ExportedTracing, exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    tracing._provider.force_flush()
    spans = list(exporter.get_finished_spans())
    tracing.stop()
    return spans


def test_without_a_collector_the_clients_trace_goes_on_untouched() -> None:
    tracing = open_tracing(TelemetrySettings())
    request = Request(headers={b"traceparent": TRACEPARENT, b"tracestate": b"vendor=1"})

    assert answer(tracing, request) == {b"traceparent": TRACEPARENT, b"tracestate": b"vendor=1"}
    assert answer(tracing, Request()) == {}


@pytest.mark.parametrize("junk", [b"", b"x", TRACEPARENT + b"\r\nx-evil: 1", TRACEPARENT.upper(), b"00-" * 100])
def test_what_is_no_trace_context_is_not_forwarded(junk: bytes) -> None:
    request = Request(headers={b"traceparent": junk, b"tracestate": b"a=1\r\nx-evil: 1"})

    assert answer(Tracing(), request) == {}


def test_a_request_makes_a_server_and_a_client_span_in_the_clients_trace() -> None:
    request = Request(headers={b"traceparent": TRACEPARENT}, body={"max_tokens": 64, "temperature": 0.5, "n": 1})

    server, client = spans_of(request)

    assert server.context is not None
    assert client.context is not None
    assert server.parent is not None
    assert client.parent is not None
    assert f"{server.context.trace_id:032x}" == f"{client.context.trace_id:032x}" == TRACE
    assert f"{server.parent.span_id:016x}" == PARENT
    assert client.parent.span_id == server.context.span_id
    assert (server.name, server.kind) == ("POST /v1/chat/completions", SpanKind.SERVER)
    assert (client.name, client.kind) == ("chat m", SpanKind.CLIENT)
    assert dict(server.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "signet.request.id": "req_1",
        "signet.tenant": "acme",
    }
    assert dict(client.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.choice.count": 1,
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "engine-0",
        "server.port": 8100,
        "signet.mark.scheme": "gumbel",
    }


@pytest.mark.parametrize(
    ("name", "path"),
    [("messages", "/v1/messages/count_tokens"), ("tokenize", "/detokenize"), ("tokenize", "/tokenize")],
)
def test_the_span_is_named_by_the_path_that_was_asked(name: str, path: str):
    server = next(span for span in spans_of(Request(endpoint=Endpoint(name, path))) if span.kind is SpanKind.SERVER)

    assert server.name == f"POST {path}"
    assert server.attributes is not None
    assert server.attributes["http.route"] == path


def test_the_engine_continues_the_trace_of_its_attempt() -> None:
    exporter = InMemorySpanExporter()
    tracing = ExportedTracing(TelemetrySettings(), exporter)

    sent = answer(tracing, Request(headers={b"traceparent": TRACEPARENT, b"tracestate": b"vendor=1"}))

    client = next(span for span in exported(tracing, exporter) if span.kind is SpanKind.CLIENT)
    assert client.context is not None
    assert sent == {
        b"traceparent": f"00-{TRACE}-{client.context.span_id:016x}-01".encode(),
        b"tracestate": b"vendor=1",
    }


def test_a_retry_is_a_span_of_its_own() -> None:
    exporter = InMemorySpanExporter()
    tracing = ExportedTracing(TelemetrySettings(), exporter)
    request = Request()
    trace = tracing.start_request(request)

    first, second = dict(tracing.outgoing_headers(request, trace)), dict(tracing.outgoing_headers(request, trace))
    tracing.finish_request(request, trace, 200)

    attempts = [span for span in exported(tracing, exporter) if span.kind is SpanKind.CLIENT]
    assert first != second
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.UNSET]


@pytest.mark.parametrize(("status", "server_fails"), [(200, False), (400, False), (503, True)])
def test_errors_are_marked_as_the_conventions_say(status: int, server_fails: bool) -> None:
    server, client = spans_of(Request(), status)

    assert (server.status.status_code is StatusCode.ERROR) is server_fails
    assert (client.status.status_code is StatusCode.ERROR) is (status >= 400)
    assert (client.attributes or {}).get("error.type") == (str(status) if status >= 400 else None)


def test_no_attribute_holds_text_of_the_request() -> None:
    body = {
        "messages": [{"role": "user", "content": PROMPT}],
        "stop": [PROMPT],
        "user": PROMPT,
        "temperature": PROMPT,
        "seed": PROMPT,
        "max_tokens": 10**30,
    }

    spans = spans_of(Request(body=body))

    assert "Hortense" not in "".join(span.to_json() for span in spans)
    assert "hunter2" not in "".join(span.to_json() for span in spans)


def test_a_client_that_does_not_sample_is_respected() -> None:
    assert spans_of(Request(headers={b"traceparent": TRACEPARENT[:-1] + b"0"})) == []
    assert spans_of(Request(), trace_sample_ratio=0.0) == []


def test_service_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(**settings: Any) -> object:
        return spans_of(Request(), **settings)[0].resource.attributes["service.name"]

    assert name() == "signet-gateway"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-environment")
    assert name() == "from-environment"
    assert name(service_name="ours") == "ours"


def test_names_are_those_of_the_conventions() -> None:
    modules = (gen_ai_attributes, http_attributes, server_attributes, error_attributes, url_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    ours = {value for key, value in vars(genai).items() if key.isupper() and isinstance(value, str)}

    unknown = {name for name in ours - known if "." in name and not name.startswith("signet.")}

    assert unknown == set()
    assert set(genai.OPERATIONS.values()) <= {
        operation.value for operation in gen_ai_attributes.GenAiOperationNameValues
    }


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_spans_reach_a_collector_over_otlp() -> None:
    received: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Keeping", (Collector,), {"received": received}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tracing = open_tracing(TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{server.server_port}/"))

    answer(tracing, Request())
    tracing.stop()
    server.shutdown()
    server.server_close()

    [(path, payload)] = received
    message = ExportTraceServiceRequest.FromString(payload)
    names = [span.name for span in message.resource_spans[0].scope_spans[0].spans]
    assert path == "/v1/traces"
    assert sorted(names) == ["POST /v1/chat/completions", "chat m"]


@contextlib.contextmanager
def a_collector_that_is_down() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    yield port


@contextlib.contextmanager
def a_collector_that_hangs() -> Iterator[int]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("collector", [a_collector_that_is_down, a_collector_that_hangs])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the exporter's connection ends with its thread
def test_a_collector_that_fails_delays_nothing(collector: Any) -> None:
    with collector() as port:
        tracing = open_tracing(TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{port}"))
        took: list[float] = []
        for _ in range(6000):  # more spans than the queue holds
            started = time.perf_counter()
            answer(tracing, Request())
            took.append(time.perf_counter() - started)
        started = time.perf_counter()
        tracing.stop()
        stopping = time.perf_counter() - started

    # Not the longest: on a busy machine any single call may be put aside for a while.
    assert sorted(took)[int(0.99 * len(took))] < 0.05
    assert stopping < 4.0
    # Nothing goes on trying behind the back of other tests.
    wait_until(lambda: not any(thread.name == "signet-tracing-stop" for thread in threading.enumerate()), 20, "it ends")
