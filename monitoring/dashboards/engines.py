"""The engines from the inside: vLLM's own metrics, under the names of models, checkpoints and engines that we use.

vLLM calls a model `model_name`, and counts the cores of one server by `engine`. Our `engine` is the server's address,
which is Prometheus' label `instance` too: that is what joins the two.
"""

from __future__ import annotations

from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row
from monitoring.dashboards.lines import quantiles, rates

_BY = "model_name, instance"
_LINE = "{{model_name}} {{instance}}"


def _rate(counter: str, by: str = _BY) -> str:
    return f"sum by ({by}) (rate({counter}[$__rate_interval]))"


# One series a model and engine, with the first twelve characters of its checkpoint's digest as `version`.
_CHECKPOINT = (
    "max by (namespace, instance, model_name, version) (label_replace(label_replace(signet_engine_manifest_info,"
    ' "version", "$1", "manifest", "sha256:(.{12}).*"), "model_name", "$1", "model", "(.*)"))'
)


def _with_version(query: str) -> str:
    """The query's values with the checkpoint that made them; engines that announce none drop out."""
    return f"{query} * on (namespace, instance, model_name) group_left (version) {_CHECKPOINT}"


NOW = Row(
    "Now",
    (
        Panel(
            "KV cache in use",
            "The fullest engine's share. Near 100%, answers are thrown out of the batch and begun again.",
            (Query("max(vllm:kv_cache_usage_perc)", "in use"),),
            "percentunit",
            "stat",
            width=6,
            steps=((0.8, "orange"), (0.95, "red")),
        ),
        Panel(
            "Answers in the batch",
            "Answers that engines work on, all together.",
            (Query("sum(vllm:num_requests_running)", "running"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Waiting inside engines",
            "The gateways keep the queue: more than a few here, and something else asks the engines too.",
            (Query("sum(vllm:num_requests_waiting)", "waiting"),),
            kind="stat",
            width=6,
            steps=((5, "orange"),),
        ),
        Panel(
            "Tokens a second",
            "Tokens that engines write, all together.",
            (Query("sum(rate(vllm:generation_tokens_total[$__rate_interval]))", "written"),),
            kind="stat",
            width=6,
        ),
    ),
)

BATCH = Row(
    "Cache and batch",
    (
        Panel(
            "KV cache",
            "Share of each engine's KV cache that running answers hold, by the checkpoint that it serves.",
            (
                Query(
                    _with_version(f"max by (namespace, {_BY}) (vllm:kv_cache_usage_perc)"),
                    "{{model_name}} {{version}} {{instance}}",
                ),
            ),
            "percentunit",
            top=1,
        ),
        Panel(
            "Batch",
            "Answers that run in each engine, and requests that wait inside it.",
            (
                Query(f"sum by ({_BY}) (vllm:num_requests_running)", f"running {_LINE}"),
                Query(f"sum by ({_BY}) (vllm:num_requests_waiting)", f"waiting {_LINE}"),
            ),
        ),
        Panel(
            "Preemptions",
            "Answers thrown out of a full cache and begun again: each costs its work twice. Lower --max-num-seqs, or"
            " give the cache more memory.",
            rates("vllm:num_preemptions_total", _BY),
            "ops",
        ),
        Panel(
            "Prefix cache hits",
            "Share of prompt tokens that an earlier request had computed. Routing by prefix keeps it high.",
            (
                Query(
                    f"{_rate('vllm:prefix_cache_hits_total')} / ({_rate('vllm:prefix_cache_queries_total')} > 0)", _LINE
                ),
            ),
            "percentunit",
            top=1,
        ),
        Panel(
            "Tokens in a step",
            "Mean tokens of one step of the engine, of prompts and answers together: the batch that the hardware sees.",
            (
                Query(
                    f"{_rate('vllm:iteration_tokens_total_sum')} / ({_rate('vllm:iteration_tokens_total_count')} > 0)",
                    _LINE,
                ),
            ),
        ),
        Panel(
            "How answers ended",
            "`length`: cut at max_tokens. `abort`: the client went away, or the gateway took the stream elsewhere.",
            rates("vllm:request_success_total", "model_name, finished_reason"),
            "reqps",
            is_stacked=True,
        ),
    ),
)

SPEED = Row(
    "Speed",
    (
        Panel(
            "Tokens written",
            "Tokens of answers a second.",
            (
                Query(
                    _with_version(_rate("vllm:generation_tokens_total", f"namespace, {_BY}")),
                    "{{model_name}} {{version}} {{instance}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Tokens read",
            "Tokens of prompts a second, those from the prefix cache among them.",
            rates("vllm:prompt_tokens_total", _BY),
            width=6,
        ),
        Panel(
            "Time to first token",
            "Inside the engine, without the gateway's queue.",
            quantiles("vllm:time_to_first_token_seconds", _BY, 0.5, 0.95),
            "s",
            width=6,
        ),
        Panel(
            "Time between tokens",
            "Inside the engine.",
            quantiles("vllm:inter_token_latency_seconds", _BY, 0.5, 0.95),
            "s",
            width=6,
        ),
        Panel(
            "Waiting for the engine's scheduler",
            "From a request's arrival at the engine to its first step.",
            quantiles("vllm:request_queue_time_seconds", _BY, 0.95),
            "s",
        ),
        Panel(
            "What the gateway adds to the first token",
            "Mean time to first text at the gateways, less the engines' own: queue, guard and network.",
            (
                Query(
                    "sum by (model) (rate(signet_gateway_ttft_seconds_sum[$__rate_interval]))"
                    " / (sum by (model) (rate(signet_gateway_ttft_seconds_count[$__rate_interval])) > 0)"
                    " - on (model) label_replace("
                    "sum by (model_name) (rate(vllm:time_to_first_token_seconds_sum[$__rate_interval]))"
                    " / (sum by (model_name) (rate(vllm:time_to_first_token_seconds_count[$__rate_interval])) > 0),"
                    ' "model", "$1", "model_name", "(.*)")',
                    "{{model}}",
                ),
            ),
            "s",
            is_signed=True,
        ),
        Panel(
            "Length of prompts and answers",
            "Mean tokens of the requests that ended.",
            tuple(
                Query(
                    f"{_rate(f'vllm:request_{kind}_tokens_sum', 'model_name')}"
                    f" / ({_rate(f'vllm:request_{kind}_tokens_count', 'model_name')} > 0)",
                    f"{called} {{{{model_name}}}}",
                )
                for kind, called in (("prompt", "prompt"), ("generation", "answer"))
            ),
        ),
    ),
)

IDENTITY = Row(
    "What each engine is",
    (
        Panel(
            "Checkpoints",
            "The signed checkpoint that each engine verified and serves under a name. Two under one name, outside a"
            " rollout: answers differ by chance.",
            (Query("max by (namespace, instance, model, manifest) (signet_engine_manifest_info)", ""),),
            kind="table",
            width=12,
        ),
        Panel(
            "Mark schemes",
            "The watermark schemes that each engine can mark with.",
            (Query("max by (namespace, instance, schemes) (signet_engine_plugin_info)", ""),),
            kind="table",
            width=12,
        ),
        Panel(
            "As the gateways see it",
            "For each checkpoint: 1 while gateways reach the engine and its circuit is closed.",
            (
                Query(
                    "label_replace(min by (namespace, engine) (signet_gateway_engine_up"
                    ' * (signet_gateway_engine_circuit == bool 0)), "instance", "$1", "engine", "(.*)")'
                    f" * on (namespace, instance) group_right () {_CHECKPOINT}",
                    "{{model_name}} {{version}} {{instance}}",
                ),
            ),
            width=12,
            top=1,
        ),
        Panel(
            "Prompts refused by engines",
            "Rendered prompts in which an engine found control tokens of a client's: the guard let them pass.",
            rates("signet_engine_prompts_refused_total", "instance"),
            "reqps",
            width=12,
        ),
    ),
)

ENGINES = Dashboard(
    "signet-engines",
    "Signet: engines",
    "What limits the engines: cache, batch or prompts?",
    (NOW, BATCH, SPEED, IDENTITY),
)
