"""Traces of requests. Without a collector this costs next to nothing and still passes the client's trace on."""

from __future__ import annotations

import re
from typing import Protocol

from monitoring.telemetry.request import ObservedRequest

Headers = list[tuple[bytes, bytes]]

# https://www.w3.org/TR/trace-context/: what does not look so is dropped, not forwarded.
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
TRACESTATE = re.compile(rb"[\x20-\x7e\t]{1,512}")


class RequestTrace(Protocol):
    """The trace of one request, kept between the calls below."""

    @property
    def kept_id(self) -> str:
        """The trace's id, by which it can be looked at later; empty: it is not sampled."""
        ...


class Tracing:
    """Tracing switched off: the client's trace context goes on to the engine untouched."""

    def start_request(self, request: ObservedRequest) -> RequestTrace | None:
        """Begin the trace of a request, as a part of the client's where it sent one. Keep what is returned."""
        return None

    def outgoing_headers(self, request: ObservedRequest, trace: RequestTrace | None) -> Headers:
        """Trace context for the engine. Begins the span of one attempt; a later call begins the next."""
        traceparent = request.headers.get(b"traceparent")
        if traceparent is None or not TRACEPARENT.fullmatch(traceparent):
            return []
        tracestate = request.headers.get(b"tracestate")
        if tracestate is None or not TRACESTATE.fullmatch(tracestate):
            return [(b"traceparent", traceparent)]
        return [(b"traceparent", traceparent), (b"tracestate", tracestate)]

    def finish_request(self, request: ObservedRequest, trace: RequestTrace | None, status: int) -> None:
        """End the trace. `status` is what the client saw."""

    def stop(self) -> None:
        """Send what is waiting, for two seconds at most."""
