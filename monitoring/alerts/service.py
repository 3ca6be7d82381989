"""Alerts on gateways and engines: gone, full, or up and of no use."""

from __future__ import annotations

from monitoring.alerts.rule import AUTOSCALERS, ENGINES, GATEWAYS, PODS, Alert, Group

GATEWAY = Group(
    "signet-gateway",
    (
        Alert(
            "SignetGatewayAbsent",
            "absent(signet_gateway_in_flight)",
            "no gateway is there for Prometheus: none runs, or none is scraped",
            "critical",
            "3m",
        ),
        Alert(
            "SignetGatewayDown",
            f"up{{{GATEWAYS}}} == 0",
            "the gateway {{ $labels.instance }} does not answer Prometheus",
            "warning",
            "5m",
        ),
        Alert(
            "SignetStreamsLost",
            'sum by (namespace) (increase(signet_gateway_continuations_total{cause="lost"}[15m])) > 0',
            "streams broke off before their end, since no engine could go on with them",
            "warning",
        ),
        Alert(
            "SignetStreamsMoved",
            'sum by (namespace) (increase(signet_gateway_continuations_total{cause="failed"}[15m])) > 20',
            "{{ $value | humanize }} streams in 15 minutes had to go on elsewhere: engines die or stall often",
            "warning",
        ),
        Alert(
            "SignetQueueRefuses",
            "sum by (namespace) (increase(signet_gateway_queue_refused_total[10m])) > 20"
            " and sum by (namespace) (increase(signet_gateway_queue_refused_total[10m]))"
            " > 0.05 * sum by (namespace) (increase(signet_gateway_requests_total[10m]))",
            "more than a twentieth of the requests is refused: there are too few engines for the load",
            "warning",
            "5m",
        ),
        Alert(
            "SignetQueueSaturated",
            "sum by (namespace, model) (signet_gateway_queue_waiting)"
            " > sum by (namespace, model) (signet_gateway_queue_running)",
            "more requests wait for {{ $labels.model }} than are being answered",
            "warning",
            "10m",
        ),
        Alert(
            "SignetDiscoveryDown",
            "min by (namespace, source) (signet_gateway_discovery_up) == 0",
            "{{ $labels.source }} cannot be asked for engines: new ones are not found, dead ones stay",
            "warning",
            "5m",
        ),
        Alert(
            "SignetSettingsRefused",
            'sum by (namespace, instance) (increase(signet_gateway_reloads_total{result="refused"}[15m])) > 0',
            "the gateway {{ $labels.instance }} refused changed settings and goes on with the old ones",
            "warning",
        ),
        Alert(
            "SignetLimitsDegraded",
            "max by (namespace) (signet_limits_degraded) == 1",
            "gateways count limits and budgets alone: the server that shares them is gone",
            "warning",
            "5m",
        ),
    ),
)

ENGINE = Group(
    "signet-engines",
    (
        Alert(
            "SignetNoEngine",
            "(sum by (namespace) (increase(signet_gateway_requests_total[5m])) > 0"
            " or sum by (namespace) (signet_gateway_queue_waiting) > 0)"
            # Of a gateway that is gone, the last requests stay for five minutes, and its engines do not.
            " and sum by (namespace) (signet_gateway_in_flight) >= 0"
            " unless on (namespace) max by (namespace) (signet_gateway_engine_up) == 1",
            "clients ask, and no engine answers",
            "critical",
            "1m",
        ),
        Alert(
            "SignetEnginesLost",
            "avg by (namespace) (max by (namespace, engine) (signet_gateway_engine_up)) < 0.5"
            " and count by (namespace) (max by (namespace, engine) (signet_gateway_engine_up)) > 1",
            "more than half of the engines are down; {{ $value | humanizePercentage }} are left",
            "critical",
            "3m",
        ),
        Alert(
            "SignetEngineDown",
            "max by (namespace, engine) (signet_gateway_engine_up) == 0",
            "the engine {{ $labels.engine }} answers no gateway",
            "warning",
            "5m",
        ),
        Alert(
            "SignetEngineCircuitOpen",
            "min by (namespace, engine) (signet_gateway_engine_circuit) == 2"
            " and max by (namespace, engine) (signet_gateway_engine_up) == 1",
            "the engine {{ $labels.engine }} is up, and its answers fail: gateways pass it over",
            "warning",
            "5m",
        ),
        Alert(
            "SignetEngineStalled",
            "sum by (namespace, instance, model_name) (vllm:num_requests_running) > 0"
            " and sum by (namespace, instance, model_name) (increase(vllm:generation_tokens_total[5m])) == 0"
            " and sum by (namespace, instance, model_name) (increase(vllm:prompt_tokens_total[5m])) == 0",
            "the engine {{ $labels.instance }} holds requests and has not made a token for five minutes",
            "critical",
            "2m",
        ),
        Alert(
            "SignetEngineUnscraped",
            f"up{{{ENGINES}}} == 0",
            "Prometheus cannot read the engine {{ $labels.instance }}",
            "warning",
            "10m",
        ),
        Alert(
            "SignetKVCacheFull",
            "max by (namespace, instance, model_name) (vllm:kv_cache_usage_perc) > 0.95"
            " and sum by (namespace, instance, model_name) (increase(vllm:num_preemptions_total[10m])) > 0",
            "the KV cache of {{ $labels.instance }} is full, and answers are begun again: each costs its work twice",
            "warning",
            "10m",
        ),
        Alert(
            "SignetMixedCheckpoints",
            "count by (namespace, model) (count by (namespace, model, manifest) (signet_engine_manifest_info)) > 1",
            "{{ $value }} checkpoints answer under the name {{ $labels.model }}",
            "warning",
            "1h",
        ),
        Alert(
            "SignetPromptsRefused",
            "sum by (namespace, instance) (increase(signet_engine_prompts_refused_total[15m])) > 0",
            "an engine found control tokens in a prompt that the guard had let pass",
            "warning",
        ),
    ),
)

_AUTOSCALER = f"horizontalpodautoscaler=~{AUTOSCALERS}"
_SAME_AUTOSCALER = "on (namespace, horizontalpodautoscaler)"
SCALING = Group(
    "signet-scaling",
    (
        Alert(
            "SignetAutoscalerBlind",
            f'kube_horizontalpodautoscaler_status_condition{{{_AUTOSCALER}, condition="ScalingActive", status="false"}}'
            f" == 1 and {_SAME_AUTOSCALER}"
            f" kube_horizontalpodautoscaler_status_current_replicas{{{_AUTOSCALER}}} > 0",
            "the autoscaler {{ $labels.horizontalpodautoscaler }} gets no metrics: it scales neither up nor down",
            "warning",
            "10m",
        ),
        Alert(
            "SignetAutoscalerAtMost",
            f"kube_horizontalpodautoscaler_status_desired_replicas{{{_AUTOSCALER}}} >= {_SAME_AUTOSCALER}"
            f" kube_horizontalpodautoscaler_spec_max_replicas{{{_AUTOSCALER}}} > {_SAME_AUTOSCALER}"
            f" kube_horizontalpodautoscaler_spec_min_replicas{{{_AUTOSCALER}}}"
            " and on (namespace) sum by (namespace) (signet_gateway_queue_waiting) > 0",
            "{{ $labels.horizontalpodautoscaler }} is at its most replicas, and requests wait",
            "warning",
            "15m",
        ),
        Alert(
            "SignetPodsPending",
            f'sum by (namespace, pod) (kube_pod_status_phase{{pod=~{PODS}, phase="Pending"}}) > 0',
            "the pod {{ $labels.pod }} finds no node, or cannot be started",
            "warning",
            "15m",
        ),
        Alert(
            "SignetRolloutStuck",
            f'kube_deployment_status_condition{{deployment=~{PODS}, condition="Progressing", status="false"}} == 1',
            "the rollout of {{ $labels.deployment }} does not go on",
            "warning",
            "5m",
        ),
        Alert(
            "SignetPodRestarts",
            f"sum by (namespace, pod) (increase(kube_pod_container_status_restarts_total{{pod=~{PODS}}}[30m])) > 2",
            "the pod {{ $labels.pod }} is restarted again and again",
            "warning",
        ),
    ),
)
