"""How the service is for its clients: objectives, traffic, latency, queue, failover, and the gateways themselves."""

from __future__ import annotations

from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row
from monitoring.dashboards.lines import quantiles, rates

NOW = Row(
    "Now",
    (
        Panel(
            "Requests answered",
            "Share of the last hour's requests that did not end in a 5xx. Green: 99.9%.",
            (
                Query(
                    '1 - sum(rate(signet_gateway_requests_total{status=~"5.."}[1h]))'
                    " / sum(rate(signet_gateway_requests_total[1h]))",
                    "answered",
                ),
            ),
            "percentunit",
            "stat",
            width=4,
            starts="red",
            steps=((0.99, "orange"), (0.999, "green")),
        ),
        Panel(
            "First text within 2.5 s",
            "Share of the last hour's answers whose first text came in time. Green: 95%.",
            (
                Query(
                    'sum(rate(signet_gateway_ttft_seconds_bucket{le="2.5"}[1h]))'
                    " / sum(rate(signet_gateway_ttft_seconds_count[1h]))",
                    "in time",
                ),
            ),
            "percentunit",
            "stat",
            width=4,
            starts="red",
            steps=((0.8, "orange"), (0.95, "green")),
        ),
        Panel(
            "Next text within 0.2 s",
            "Share of the last hour's gaps within streams that were short enough to read on. Green: 95%.",
            (
                Query(
                    'sum(rate(signet_gateway_inter_token_seconds_bucket{le="0.2"}[1h]))'
                    " / sum(rate(signet_gateway_inter_token_seconds_count[1h]))",
                    "in time",
                ),
            ),
            "percentunit",
            "stat",
            width=4,
            starts="red",
            steps=((0.8, "orange"), (0.95, "green")),
        ),
        Panel(
            "Requests open",
            "Requests between their arrival and their end, all gateways together.",
            (Query("sum(signet_gateway_in_flight)", "open"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Requests waiting",
            "Requests that wait for a place at an engine. Above zero for long: too few engines.",
            (Query("sum(signet_gateway_queue_waiting)", "waiting"),),
            kind="stat",
            width=4,
            steps=((1, "orange"),),
        ),
        Panel(
            "Engines that answer",
            "Share of the known engines that answered their last probe, as the gateways see it.",
            (Query("avg(max by (engine) (signet_gateway_engine_up))", "up"),),
            "percentunit",
            "stat",
            width=4,
            starts="red",
            steps=((0.5, "orange"), (1, "green")),
        ),
    ),
)

TRAFFIC = Row(
    "Traffic and errors",
    (
        Panel(
            "Requests by status",
            "What clients saw. 499: the client went away before the end.",
            (Query("sum by (status) (rate(signet_gateway_requests_total[$__rate_interval])) > 0", "{{status}}"),),
            "reqps",
            is_stacked=True,
        ),
        Panel(
            "Requests by model",
            "Requests that ended, by the model that they were for; `other` is no model of ours.",
            rates("signet_gateway_requests_total", "model"),
            "reqps",
            is_stacked=True,
        ),
        Panel(
            "Errors by code",
            "Why requests ended in an error; docs/reference/errors.md explains each code.",
            (Query("sum by (code) (rate(signet_gateway_errors_total[$__rate_interval])) > 0", "{{code}}"),),
            "reqps",
            is_stacked=True,
        ),
        Panel(
            "Tokens",
            "Tokens of settled requests a second: what engines did, and what is billed.",
            rates("signet_gateway_tokens_total", "model, kind"),
            width=12,
        ),
        Panel(
            "Share of 5xx",
            "Share of requests that ended in a 5xx: this is what burns the error budget.",
            (
                Query(
                    'sum by (model) (rate(signet_gateway_requests_total{status=~"5.."}[$__rate_interval]))'
                    " / (sum by (model) (rate(signet_gateway_requests_total[$__rate_interval])) > 0)",
                    "{{model}}",
                ),
            ),
            "percentunit",
            width=12,
        ),
    ),
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to first text",
            "From a request's arrival to its first text: the queue, the engine's prefill, and the guard.",
            quantiles("signet_gateway_ttft_seconds", "model", 0.5, 0.95, 0.99),
            "s",
        ),
        Panel(
            "Time between texts",
            "Between two texts of one stream. It rises with the engines' batch.",
            quantiles("signet_gateway_inter_token_seconds", "model", 0.5, 0.95, 0.99),
            "s",
        ),
        Panel(
            "Whole requests",
            "From arrival to end, by API. Long answers are long requests: judge the service by the first text.",
            quantiles("signet_gateway_request_seconds", "route", 0.5, 0.95),
            "s",
        ),
    ),
)

QUEUE = Row(
    "Queue",
    (
        Panel(
            "Waiting and running",
            "Requests in the queue, and those that hold a place at an engine.",
            (
                Query("sum by (model) (signet_gateway_queue_waiting)", "waiting {{model}}"),
                Query("sum by (model) (signet_gateway_queue_running)", "running {{model}}"),
            ),
            width=6,
        ),
        Panel(
            "Time in the queue",
            "From arrival to when a request was sent to an engine. Milliseconds: nobody waits.",
            quantiles("signet_gateway_queue_seconds", "", 0.5, 0.95, 0.99),
            "s",
            width=6,
        ),
        Panel(
            "Refused by the queue",
            "Requests that were refused early, or dropped at their deadline.",
            rates("signet_gateway_queue_refused_total", "reason"),
            "reqps",
            width=6,
            is_stacked=True,
        ),
        Panel(
            "Places found at engines",
            "Answers that gateways let an engine have in flight at once, as they have found it to bear.",
            (Query("sum by (engine) (signet_gateway_engine_limit)", "{{engine}}"),),
            width=6,
        ),
    ),
)

FAILOVER = Row(
    "Engines, as gateways see them",
    (
        Panel(
            "Streams taken to another engine",
            "`failed`: the engine died or stalled. `drained`: it is being stopped. `lost`: no other could go on,"
            " and the client saw an error.",
            rates("signet_gateway_continuations_total", "cause"),
            "reqps",
            width=6,
        ),
        Panel(
            "Engines up",
            "1 when the engine answered its last probe.",
            (Query("min by (engine) (signet_gateway_engine_up)", "{{engine}}"),),
            width=6,
            top=1,
        ),
        Panel(
            "Circuits",
            "0: the engine's answers are good. 2: they fail, and it is passed over, whatever its probe says.",
            (Query("max by (engine) (signet_gateway_engine_circuit)", "{{engine}}"),),
            width=6,
            top=2,
        ),
        Panel(
            "Draining, and sources of engines",
            "Engines that are about to go, and whether the sources of engines can be asked.",
            (
                Query("max by (engine) (signet_gateway_engine_draining)", "draining {{engine}}"),
                Query("min by (source) (signet_gateway_discovery_up)", "{{source}} answers"),
            ),
            width=6,
            top=1,
        ),
    ),
)


# Everything has process metrics: these are the gateways'.
_OF_GATEWAYS = " and on (namespace, instance) signet_gateway_in_flight"

PROCESSES = Row(
    "Gateways",
    (
        Panel(
            "Processor",
            "Cores in use by each gateway: one for each worker is all it can take.",
            (
                Query(
                    f"sum by (instance) (rate(process_cpu_seconds_total[$__rate_interval]){_OF_GATEWAYS})",
                    "{{instance}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Memory",
            "Resident memory of each gateway, its workers together.",
            (Query(f"sum by (instance) (process_resident_memory_bytes{_OF_GATEWAYS})", "{{instance}}"),),
            "bytes",
            width=6,
        ),
        Panel(
            "Open requests",
            "Requests open at each gateway. One that keeps none is not reached; one that keeps many is draining.",
            (Query("sum by (instance) (signet_gateway_in_flight)", "{{instance}}"),),
            width=6,
        ),
        Panel(
            "Settings and limits",
            "Reloads of the settings (a refused one changed nothing), and gateways that count limits alone because the "
            "server that shares them is gone.",
            (
                Query(
                    "sum by (result) (rate(signet_gateway_reloads_total[$__rate_interval]))",
                    "reloads a second {{result}}",
                ),
                Query("sum(signet_limits_degraded)", "gateways counting alone"),
            ),
            width=6,
        ),
    ),
)

SERVICE = Dashboard(
    "signet-service",
    "Signet: service",
    "Does it answer, how fast, and why not? Start here.",
    (NOW, TRAFFIC, LATENCY, QUEUE, FAILOVER, PROCESSES),
)
