"""Every metric of the gateway: name, kind, help, labels. Docs, dashboards and alerts are clients of this list.

`signet_<area>_<thing>_<unit>`, base units. No label carries a tenant or a key: what each used is in the ledger.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


REQUESTS = Metric(
    "signet_gateway_requests_total",
    "counter",
    "Requests that ended, by the HTTP status the client saw; 499 when it went away.",
    ("endpoint", "model", "status"),
)
IN_FLIGHT = Metric("signet_gateway_in_flight", "gauge", "Requests open now.")
QUEUE = Metric(
    "signet_gateway_queue_seconds",
    "histogram",
    "From a request's arrival to when it was sent to an engine.",
)
TTFT = Metric(
    "signet_gateway_ttft_seconds",
    "histogram",
    "From a request's arrival to the first text from the engine.",
    ("model",),
)
INTER_TOKEN = Metric(
    "signet_gateway_inter_token_seconds",
    "histogram",
    "Time between two texts of one streamed answer.",
    ("model",),
)
DURATION = Metric(
    "signet_gateway_request_seconds",
    "histogram",
    "From a request's arrival to its end.",
    ("endpoint", "model"),
)
TOKENS = Metric(
    "signet_gateway_tokens_total",
    "counter",
    "Tokens of settled requests; kind is prompt or completion.",
    ("model", "kind"),
)
ERRORS = Metric(
    "signet_gateway_errors_total",
    "counter",
    "Requests that ended in an error, by the error's code.",
    ("code",),
)
ENGINE_UP = Metric(
    "signet_gateway_engine_up",
    "gauge",
    "1 when the engine answered its last probe, else 0.",
    ("engine",),
)
GUARD_ACTIONS = Metric(
    "signet_guard_actions_total",
    "counter",
    "What the guard found and did; direction is input or output.",
    ("entity", "action", "direction"),
)
MARKS = Metric(
    "signet_marks_total",
    "counter",
    "Answers by the scheme of their mark; off when unmarked.",
    ("scheme",),
)

GATEWAY_METRICS = (
    REQUESTS,
    IN_FLIGHT,
    QUEUE,
    TTFT,
    INTER_TOKEN,
    DURATION,
    TOKENS,
    ERRORS,
    ENGINE_UP,
    GUARD_ACTIONS,
    MARKS,
)
