"""A healthy deployment as Prometheus sees it, and what each fault changes in it.

Shared by the unit tests of the rules (promtool) and by `loadtests.faults.alerts` (a real Prometheus and Alertmanager).
A series is a level, or counts so many a minute; a fault replaces some of them, or takes a target away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MODEL = "chat-8b"
MANIFEST = "sha256:" + "1" * 64


@dataclass(frozen=True)
class Level:
    """A gauge that stays."""

    value: float


@dataclass(frozen=True)
class PerMinute:
    """A counter."""

    rate: float


@dataclass(frozen=True)
class Now:
    """The time of day in Unix seconds."""


Shape = Level | PerMinute | Now
Series = dict[str, Shape]

GATEWAY, ENGINE_A, ENGINE_B, DRIFT, CLUSTER = "gateway", "engine-a", "engine-b", "drift", "cluster"

CONTROL_TOKENS = "signet_engine_prompts_refused_total"
LAST_READ = "signet_drift_last_read_timestamp_seconds"

# What the operator gives each target. kube-state-metrics says itself whose metrics they are (honorLabels).
TARGETS: dict[str, dict[str, str]] = {
    GATEWAY: {"job": "signet-gateway", "instance": "10.0.0.1:8000", "pod": "signet-gateway-1", "container": "gateway"},
    ENGINE_A: {"job": "signet-engine-chat", "instance": "10.0.1.1:8100", "pod": "signet-engine-chat-1"},
    ENGINE_B: {"job": "signet-engine-chat", "instance": "10.0.1.2:8100", "pod": "signet-engine-chat-2"},
    DRIFT: {"job": "signet-drift", "instance": "10.0.0.9:9464", "pod": "signet-drift-1"},
    CLUSTER: {"job": "kube-state-metrics"},
}
_ENGINES = tuple(TARGETS[name]["instance"] for name in (ENGINE_A, ENGINE_B))


def _histogram(name: str, labels: str, below: Mapping[str, float], all_per_minute: float) -> Series:
    """A histogram of which so many events a minute lie below each bound."""
    inside = f"{labels}, " if labels else ""
    buckets = {f'{name}_bucket{{{inside}le="{bound}"}}': PerMinute(rate) for bound, rate in below.items()}
    whole = {f'{name}_bucket{{{inside}le="+Inf"}}': PerMinute(all_per_minute)}
    count = {f"{name}_count{{{labels}}}" if labels else f"{name}_count": PerMinute(all_per_minute)}
    return {**buckets, **whole, **count}


def requests(status: str) -> str:
    return f'signet_gateway_requests_total{{route="chat", model="{MODEL}", status="{status}"}}'


def first_text(late_per_minute: float) -> Series:
    below = {"1.0": 590 - late_per_minute, "2.5": 600 - late_per_minute, "10.0": 600}
    return _histogram("signet_gateway_ttft_seconds", f'model="{MODEL}"', below, 600)


def next_text(late_per_minute: float) -> Series:
    below = {"0.1": 59_000 - late_per_minute, "0.2": 60_000 - late_per_minute, "1.0": 60_000}
    return _histogram("signet_gateway_inter_token_seconds", f'model="{MODEL}"', below, 60_000)


def commits(slow_per_minute: float) -> Series:
    below = {"0.01": 600 - slow_per_minute, "0.25": 600 - slow_per_minute, "1.0": 600}
    return _histogram("signet_ledger_commit_seconds", "", below, 600)


def engine_up(engine: str) -> str:
    return f'signet_gateway_engine_up{{engine="{engine}"}}'


def circuit(engine: str) -> str:
    return f'signet_gateway_engine_circuit{{engine="{engine}"}}'


def vllm(metric: str) -> str:
    return f'vllm:{metric}{{engine="0", model_name="{MODEL}"}}'


def guard_hits(direction: str) -> str:
    return f'signet_guard_actions_total{{entity="EMAIL_ADDRESS", action="mask", direction="{direction}"}}'


def classifier(outcome: str) -> str:
    return f'signet_guard_classifier_answers_total{{classifier="attack", outcome="{outcome}"}}'


def autoscaler(name: str, more: str = "") -> str:
    return f'kube_horizontalpodautoscaler_{name}{{horizontalpodautoscaler="signet-engine-chat"{more}}}'


def _engine(manifest: str = MANIFEST) -> Series:
    return {
        vllm("num_requests_running"): Level(4),
        vllm("num_requests_waiting"): Level(0),
        vllm("kv_cache_usage_perc"): Level(0.4),
        vllm("num_preemptions_total"): PerMinute(0),
        vllm("generation_tokens_total"): PerMinute(60_000),
        vllm("prompt_tokens_total"): PerMinute(90_000),
        f'signet_engine_manifest_info{{model="{MODEL}", manifest="{manifest}"}}': Level(1),
        CONTROL_TOKENS: PerMinute(0),
    }


SCALING_ACTIVE = ', condition="ScalingActive", status="false"'
PROGRESSING = 'kube_deployment_status_condition{deployment="signet-gateway", condition="Progressing", status="false"}'
PENDING = 'kube_pod_status_phase{pod="signet-engine-chat-2", phase="Pending"}'
RESTARTS = 'kube_pod_container_status_restarts_total{pod="signet-engine-chat-2", container="engine"}'
QUEUE_WAITING = f'signet_gateway_queue_waiting{{model="{MODEL}"}}'
REFUSED = 'signet_gateway_queue_refused_total{reason="overloaded"}'
DISCOVERY = 'signet_gateway_discovery_up{source="dns:signet-engine-chat:8100"}'
ANCHORS = 'signet_ledger_anchor_failures_total{target="url"}'
POLICY_FAILED = 'signet_policy_decisions_total{principle="no-arson", action="failed", direction="output"}'
DRIFTED = 'signet_drift_detected{model="chat-8b@3", feature="prompt_tokens"}'
MARKED, UNMARKED = 'signet_marks_total{scheme="gumbel"}', 'signet_marks_total{scheme="off"}'


def continuations(cause: str) -> str:
    return f'signet_gateway_continuations_total{{cause="{cause}"}}'


def reloads(result: str) -> str:
    return f'signet_gateway_reloads_total{{result="{result}"}}'


HEALTHY: dict[str, Series] = {
    GATEWAY: {
        "signet_gateway_in_flight": Level(8),
        requests("200"): PerMinute(595),
        requests("429"): PerMinute(4),
        requests("499"): PerMinute(0.9),
        requests("503"): PerMinute(0.05),
        **first_text(4),
        **next_text(60),
        QUEUE_WAITING: Level(0),
        f'signet_gateway_queue_running{{model="{MODEL}"}}': Level(8),
        REFUSED: PerMinute(0.05),
        **{engine_up(engine): Level(1) for engine in _ENGINES},
        **{circuit(engine): Level(0) for engine in _ENGINES},
        DISCOVERY: Level(1),
        reloads("done"): PerMinute(0.01),
        reloads("refused"): PerMinute(0),
        continuations("failed"): PerMinute(0.02),
        continuations("lost"): PerMinute(0),
        "signet_limits_degraded": Level(0),
        "signet_ledger_up": Level(1),
        "signet_ledger_schema_mismatch": Level(0),
        "signet_ledger_pending": Level(2),
        "signet_ledger_spilled": Level(0),
        **commits(1),
        ANCHORS: PerMinute(0),
        "signet_ledger_anchor_age_seconds": Level(1200),
        "signet_receipts_total": PerMinute(595),
        MARKED: PerMinute(580),
        UNMARKED: PerMinute(15),
        guard_hits("input"): PerMinute(12),
        guard_hits("output"): PerMinute(3),
        classifier("done"): PerMinute(599),
        classifier("timeout"): PerMinute(0.5),
        classifier("error"): PerMinute(0),
        POLICY_FAILED: PerMinute(0),
    },
    ENGINE_A: _engine(),
    ENGINE_B: _engine(),
    DRIFT: {DRIFTED: Level(0), LAST_READ: Now()},
    CLUSTER: {
        autoscaler("status_condition", SCALING_ACTIVE): Level(0),
        autoscaler("status_current_replicas"): Level(2),
        autoscaler("status_desired_replicas"): Level(2),
        autoscaler("spec_min_replicas"): Level(1),
        autoscaler("spec_max_replicas"): Level(4),
        PROGRESSING: Level(0),
        PENDING: Level(0),
        RESTARTS: PerMinute(0),
    },
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and who should be told within how many minutes."""

    name: str
    alert: str
    within_min: int
    changes: Mapping[str, Series] = field(default_factory=dict)
    """By target."""
    gone: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Series that are no longer there, by target; none named: the target is no longer known at all."""
    down: tuple[str, ...] = ()
    """Targets that cannot be scraped any more."""
    also: tuple[str, ...] = ()
    """Alerts that the same fault may raise too."""
    objective: str = ""
    """The alert's label `slo`, where there is one of that name for each objective."""


FAULTS: tuple[Fault, ...] = (
    Fault(
        "half of the requests fail",
        "SignetAvailabilityBurnsFast",
        8,
        {GATEWAY: {requests("200"): PerMinute(300), requests("503"): PerMinute(300)}},
    ),
    Fault(
        "six requests in a thousand fail",
        "SignetAvailabilityBurnsSlowly",
        60,
        {GATEWAY: {requests("503"): PerMinute(3.5)}},
    ),
    Fault(
        "most first texts are late",
        "SignetFirstTextBurnsFast",
        60,
        {GATEWAY: first_text(560)},
        also=("SignetFirstTextBurnsSlowly",),
    ),
    Fault(
        "most streams stutter",
        "SignetNextTextBurnsFast",
        60,
        {GATEWAY: next_text(55_000)},
        also=("SignetNextTextBurnsSlowly",),
    ),
    Fault(
        "the counter of requests is renamed",
        "SignetObjectiveUnknown",
        20,
        gone={GATEWAY: (*map(requests, ("200", "429", "499", "503")),)},
        objective="availability",
    ),
    Fault(
        "the histogram of first texts is renamed",
        "SignetObjectiveUnknown",
        20,
        gone={GATEWAY: tuple(first_text(0))},
        objective="first_text",
    ),
    Fault(
        "the histogram of next texts is renamed",
        "SignetObjectiveUnknown",
        20,
        gone={GATEWAY: tuple(next_text(0))},
        objective="next_text",
    ),
    Fault("no gateway is there", "SignetGatewayAbsent", 9, gone={GATEWAY: ()}),
    Fault("a gateway hangs", "SignetGatewayDown", 8, down=(GATEWAY,), also=("SignetGatewayAbsent",)),
    Fault("a stream is lost", "SignetStreamsLost", 3, {GATEWAY: {continuations("lost"): PerMinute(1)}}),
    Fault("an engine stalls often", "SignetStreamsMoved", 12, {GATEWAY: {continuations("failed"): PerMinute(3)}}),
    Fault(
        "more load than engines bear",
        "SignetQueueRefuses",
        16,
        {GATEWAY: {REFUSED: PerMinute(90)}},
    ),
    Fault("the queue grows", "SignetQueueSaturated", 13, {GATEWAY: {QUEUE_WAITING: Level(40)}}),
    Fault("the name server is away", "SignetDiscoveryDown", 8, {GATEWAY: {DISCOVERY: Level(0)}}),
    Fault("wrong settings are written", "SignetSettingsRefused", 4, {GATEWAY: {reloads("refused"): PerMinute(0.5)}}),
    Fault("the limits' server is away", "SignetLimitsDegraded", 8, {GATEWAY: {"signet_limits_degraded": Level(1)}}),
    Fault(
        "all engines are down",
        "SignetNoEngine",
        3,
        {GATEWAY: {engine_up(engine): Level(0) for engine in _ENGINES}},
        also=("SignetEnginesLost", "SignetEngineDown"),
    ),
    Fault(
        "all engines are gone from the list",
        "SignetNoEngine",
        8,
        gone={GATEWAY: (*map(engine_up, _ENGINES), *map(circuit, _ENGINES))},
    ),
    Fault("one engine of two dies", "SignetEngineDown", 8, {GATEWAY: {engine_up(_ENGINES[1]): Level(0)}}),
    Fault(
        "two engines of three die",
        "SignetEnginesLost",
        6,
        {GATEWAY: {engine_up(_ENGINES[1]): Level(0), engine_up("10.0.1.3:8100"): Level(0)}},
        also=("SignetEngineDown",),
    ),
    Fault(
        "an engine is up and its answers fail",
        "SignetEngineCircuitOpen",
        8,
        {GATEWAY: {circuit(_ENGINES[1]): Level(2)}},
    ),
    Fault(
        "an engine is up and makes no tokens",
        "SignetEngineStalled",
        11,
        {ENGINE_B: {vllm("generation_tokens_total"): PerMinute(0), vllm("prompt_tokens_total"): PerMinute(0)}},
    ),
    Fault("a network policy hides an engine", "SignetEngineUnscraped", 13, down=(ENGINE_B,)),
    Fault(
        "the KV cache is full",
        "SignetKVCacheFull",
        13,
        {ENGINE_B: {vllm("kv_cache_usage_perc"): Level(0.99), vllm("num_preemptions_total"): PerMinute(6)}},
    ),
    Fault(
        "two checkpoints under one name",
        "SignetMixedCheckpoints",
        65,
        {ENGINE_B: {f'signet_engine_manifest_info{{model="{MODEL}", manifest="sha256:{"2" * 64}"}}': Level(1)}},
    ),
    Fault(
        "control tokens reach an engine",
        "SignetPromptsRefused",
        3,
        {ENGINE_A: {CONTROL_TOKENS: PerMinute(1)}},
    ),
    Fault(
        "the autoscaler finds no metric",
        "SignetAutoscalerBlind",
        13,
        {CLUSTER: {autoscaler("status_condition", SCALING_ACTIVE): Level(1)}},
    ),
    Fault(
        "no more replicas are allowed",
        "SignetAutoscalerAtMost",
        18,
        {CLUSTER: {autoscaler("status_desired_replicas"): Level(4)}, GATEWAY: {QUEUE_WAITING: Level(6)}},
    ),
    Fault("no GPU is free", "SignetPodsPending", 18, {CLUSTER: {PENDING: Level(1)}}),
    Fault("a rollout hangs", "SignetRolloutStuck", 8, {CLUSTER: {PROGRESSING: Level(1)}}),
    Fault("an engine crashes in a loop", "SignetPodRestarts", 15, {CLUSTER: {RESTARTS: PerMinute(0.4)}}),
    Fault("the database is away", "SignetLedgerDown", 3, {GATEWAY: {"signet_ledger_up": Level(0)}}),
    Fault(
        "a release is rolled out without its migration",
        "SignetSchemaMismatch",
        5,
        {GATEWAY: {"signet_ledger_schema_mismatch": Level(1)}},
    ),
    Fault("records stay in the journal", "SignetLedgerBehind", 13, {GATEWAY: {"signet_ledger_spilled": Level(300)}}),
    Fault("the database's disk is slow", "SignetLedgerSlow", 16, {GATEWAY: commits(60)}),
    Fault("anchors are refused", "SignetAnchorsFail", 3, {GATEWAY: {ANCHORS: PerMinute(1)}}),
    Fault("anchors stopped", "SignetAnchorsStale", 8, {GATEWAY: {"signet_ledger_anchor_age_seconds": Level(14_400)}}),
    Fault("the signing key is gone", "SignetReceiptsStopped", 23, {GATEWAY: {"signet_receipts_total": PerMinute(0)}}),
    Fault(
        "a flood of personal data",
        "SignetGuardHitsSurge",
        20,
        {GATEWAY: {guard_hits("input"): PerMinute(200)}},
    ),
    Fault(
        "the guard is switched off",
        "SignetGuardSilent",
        40,
        {GATEWAY: {guard_hits("input"): PerMinute(0), guard_hits("output"): PerMinute(0)}},
    ),
    Fault(
        "a classifier times out",
        "SignetClassifierFails",
        10,
        {GATEWAY: {classifier("done"): PerMinute(450), classifier("timeout"): PerMinute(150)}},
    ),
    Fault("the judge of a principle is away", "SignetPolicyFails", 5, {GATEWAY: {POLICY_FAILED: PerMinute(10)}}),
    Fault(
        "the keyring is lost",
        "SignetMarksStopped",
        40,
        {GATEWAY: {MARKED: PerMinute(0), UNMARKED: PerMinute(595)}},
    ),
    Fault("prompts become longer", "SignetDrift", 33, {DRIFT: {DRIFTED: Level(1)}}),
    Fault(
        "the drift worker cannot read",
        "SignetDriftStale",
        27,
        {DRIFT: {LAST_READ: Level(0)}},
    ),
    Fault("the drift worker is gone", "SignetDriftStale", 27, gone={DRIFT: ()}),
)


def broken(fault: Fault) -> dict[str, Series]:
    """The deployment's series with the fault in it."""
    return {
        target: {
            name: shape
            for name, shape in {**series, **fault.changes.get(target, {})}.items()
            if name not in fault.gone.get(target, ())
        }
        for target, series in HEALTHY.items()
        if target not in fault.down and fault.gone.get(target) != ()
    }
