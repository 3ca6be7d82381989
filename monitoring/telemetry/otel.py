"""Traces through the OpenTelemetry SDK to an OTLP/HTTP collector.

A request makes two spans: the gateway's own (SERVER) and one for each attempt at an engine (CLIENT, by the GenAI
conventions), whose context the engine continues. Ended spans go into a bounded queue; one thread sends them. A
collector that is down or hangs costs spans, never a request.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from monitoring.telemetry import genai
from monitoring.telemetry.request import ObservedRequest
from monitoring.telemetry.settings import TelemetrySettings
from monitoring.telemetry.tracing import Headers, RequestTrace, Tracing

# About 2 KB each; beyond it the oldest are dropped.
_MAX_WAITING_SPANS = 4096
_EXPORT_TIMEOUT_S = 5.0
# The gateway has ten seconds to stop in, and answers to finish.
_STOP_TIMEOUT_S = 2.0


class OpenTrace:
    """The open spans of one request."""

    __slots__ = ("attempt", "context", "kept_id", "server")

    def __init__(self, server: Span) -> None:
        self.server = server
        self.context: Context = set_span_in_context(server, Context())
        self.attempt: Span | None = None
        span = server.get_span_context()
        self.kept_id = format_trace_id(span.trace_id) if span.trace_flags.sampled else ""


class ExportedTracing(Tracing):
    """Tracing switched on. `exporter` takes the place of OTLP in tests."""

    def __init__(self, settings: TelemetrySettings, exporter: SpanExporter | None = None) -> None:
        if exporter is None:
            endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
            exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
        sampler = ParentBased(TraceIdRatioBased(settings.trace_sample_ratio))
        provider = TracerProvider(sampler=sampler, resource=_resource(settings.service_name), shutdown_on_exit=False)
        provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=_MAX_WAITING_SPANS, schedule_delay_millis=1000)
        )
        self._exporter = exporter
        self._provider = provider
        self._tracer = provider.get_tracer("signet.gateway")
        self._propagator = TraceContextTextMapPropagator()

    def start_request(self, request: ObservedRequest) -> OpenTrace:
        route = request.endpoint.path
        attributes: dict[str, AttributeValue] = {
            genai.HTTP_REQUEST_METHOD: "POST",
            genai.HTTP_ROUTE: route,
            genai.SIGNET_REQUEST_ID: request.request_id,
        }
        if request.principal is not None:
            attributes[genai.SIGNET_TENANT] = request.principal.tenant
        server = self._tracer.start_span(
            f"POST {route}",
            context=self._propagator.extract(_carrier(request), context=Context()),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=int(request.created_at * 1e9),
        )
        return OpenTrace(server)

    def outgoing_headers(self, request: ObservedRequest, trace: RequestTrace | None) -> Headers:
        if not isinstance(trace, OpenTrace):
            return super().outgoing_headers(request, trace)
        if trace.attempt is not None:  # the engine tried before did not answer
            _end(trace.attempt, error="unavailable")
        operation = genai.OPERATIONS.get(request.endpoint.name, request.endpoint.name)
        trace.attempt = self._tracer.start_span(
            f"{operation} {request.question.model}",
            context=trace.context,
            kind=SpanKind.CLIENT,
            attributes=_question_attributes(request, operation),
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=set_span_in_context(trace.attempt, trace.context))
        return [(name.encode(), value.encode()) for name, value in carrier.items()]

    def finish_request(self, request: ObservedRequest, trace: RequestTrace | None, status: int) -> None:
        if not isinstance(trace, OpenTrace):
            return
        error = str(status) if status >= 400 else None
        if trace.attempt is not None:
            trace.attempt.set_attributes(_answer_attributes(request))
            _end(trace.attempt, error)
        trace.server.set_attribute(genai.HTTP_RESPONSE_STATUS_CODE, status)
        # By the HTTP conventions a server's span is an error only when the server is to blame.
        _end(trace.server, error if status >= 500 else None)

    def stop(self) -> None:
        # The SDK waits up to half a minute for a collector that hangs; a daemon thread may be left behind.
        stopping = threading.Thread(target=self._provider.shutdown, name="signet-tracing-stop", daemon=True)
        stopping.start()
        stopping.join(_STOP_TIMEOUT_S)
        if stopping.is_alive():
            self._exporter.shutdown()  # it goes on trying otherwise


def _resource(service_name: str | None) -> Resource:
    resource = Resource.create()
    if service_name is None and not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource
    return resource.merge(Resource({SERVICE_NAME: service_name or "signet-gateway"}))


def _carrier(request: ObservedRequest) -> dict[str, str]:
    found = ((name, request.headers.get(name)) for name in (b"traceparent", b"tracestate"))
    return {name.decode(): value.decode("latin-1") for name, value in found if value is not None}


def _question_attributes(request: ObservedRequest, operation: str) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        genai.OPERATION_NAME: operation,
        genai.PROVIDER_NAME: genai.PROVIDER,
        genai.REQUEST_MODEL: request.question.model,
        genai.REQUEST_STREAM: request.question.stream,
    }
    if request.answer.engine is not None:
        attributes |= _engine_address(request.answer.engine.name)
    for field, attribute in genai.NUMERIC_PARAMETERS.items():
        value = request.question.body.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
            attributes[attribute] = value
    return attributes


def _answer_attributes(request: ObservedRequest) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        genai.RESPONSE_MODEL: request.question.model,
        genai.USAGE_INPUT_TOKENS: request.answer.prompt_tokens,
        genai.USAGE_OUTPUT_TOKENS: request.answer.completion_tokens,
        genai.SIGNET_MARK_SCHEME: request.mark.scheme,
    }
    if request.answer.finish_reason:
        attributes[genai.RESPONSE_FINISH_REASONS] = (request.answer.finish_reason,)
    if request.answer.first_token_at:
        attributes[genai.RESPONSE_TIME_TO_FIRST_CHUNK] = request.answer.first_token_at - request.started
    return attributes


@lru_cache(maxsize=1024)
def _engine_address(name: str) -> dict[str, AttributeValue]:
    """Host and port of an engine called by its URL (never its user name or password), else its name."""
    try:
        parts = urlsplit(name if "//" in name else f"//{name}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    address: dict[str, AttributeValue] = {genai.SERVER_ADDRESS: host} if host else {}
    return address | {genai.SERVER_PORT: port} if port else address


def _end(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_attribute(genai.ERROR_TYPE, error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
