"""The gateway's metrics, read back through Prometheus' own text format."""

from __future__ import annotations

import ast
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as ReferenceHistogram
from prometheus_client.parser import text_string_to_metric_families

from monitoring.drift.exporter import DriftGauges
from monitoring.drift.standing import standing
from monitoring.drift.watched import Watched
from monitoring.telemetry import DriftSettings, GatewayMetrics, names
from monitoring.telemetry.ledger import observe_ledger
from monitoring.telemetry.names import Metric
from monitoring.telemetry.series import Counter, Histogram
from tests.support.observed import Request

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


@dataclass
class Queue:
    waiting: dict[str, int] = field(default_factory=lambda: {"m": 3})
    running: dict[str, int] = field(default_factory=lambda: {"m": 8})
    drained_per_s: dict[str, float] = field(default_factory=lambda: {"m": 2.5})
    limits: dict[str, int] = field(default_factory=lambda: {"http://127.0.0.1:8100": 9})
    refused: dict[str, int] = field(default_factory=lambda: {"queue_full": 1})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> GatewayMetrics:
    return GatewayMetrics(registry)


def use_everything(metrics: GatewayMetrics) -> None:
    metrics.request_started()
    metrics.queue(0.001)
    metrics.ttft(0.2, "m")
    metrics.inter_token(0.03, 4, "m")
    metrics.guard_actions({("EMAIL_ADDRESS", "mask"): 2}, "input")
    metrics.classifiers.answered("attack", "timeout", 0.02)
    metrics.classifiers.flagged("jailbreak", "block")
    metrics.policy.decided("no-arson", "refuse", "input")
    metrics.policy.asked("judge", 0.2)
    metrics.policy.tokens(90, 1)
    metrics.error("engine_failed")
    metrics.request_settled(Request(), 200, 1.0)
    metrics.engine_state("http://127.0.0.1:8100", True, False, "open")
    metrics.discovery("dns:vllm", False)
    metrics.watch_admission(Queue)
    metrics.reloaded(True)
    metrics.continuation("failed")
    metrics.receipt_recorded()
    metrics.rated("m", "sha256:" + "ab" * 32, -0.5)
    metrics.shadow("m", "m2", "same")
    metrics.shadow_compared("m", "m2", 1.1, same_finish=False)


def test_what_is_reported_is_what_happened(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    use_everything(metrics)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("signet_gateway_requests_total", route="chat", model="m", status="200") == 1
    assert value("signet_gateway_tokens_total", model="m", kind="prompt") == 3
    assert value("signet_gateway_tokens_total", model="m", kind="completion") == 5
    assert value("signet_gateway_in_flight") == 1
    assert value("signet_gateway_queue_seconds_count") == 1
    assert value("signet_gateway_ttft_seconds_bucket", model="m", le="0.1") == 0
    assert value("signet_gateway_ttft_seconds_bucket", model="m", le="0.25") == 1
    assert value("signet_gateway_inter_token_seconds_count", model="m") == 4
    assert value("signet_gateway_inter_token_seconds_sum", model="m") == pytest.approx(0.12)
    assert value("signet_gateway_request_seconds_count", route="chat", model="m") == 1
    assert value("signet_gateway_errors_total", code="engine_failed") == 1
    assert value("signet_gateway_engine_up", engine="http://127.0.0.1:8100") == 1
    assert value("signet_gateway_engine_draining", engine="http://127.0.0.1:8100") == 0
    assert value("signet_gateway_engine_circuit", engine="http://127.0.0.1:8100") == 2
    assert value("signet_gateway_discovery_up", source="dns:vllm") == 0
    assert value("signet_gateway_queue_waiting", model="m") == 3
    assert value("signet_gateway_queue_running", model="m") == 8
    assert value("signet_gateway_queue_drain_rate", model="m") == 2.5
    assert value("signet_gateway_engine_limit", engine="http://127.0.0.1:8100") == 9
    assert value("signet_gateway_queue_refused_total", reason="queue_full") == 1
    assert value("signet_gateway_shadow_answers_total", model="m", shadow="m2", outcome="same") == 1
    assert value("signet_gateway_shadow_finish_differs_total", model="m", shadow="m2") == 1
    assert value("signet_gateway_shadow_length_ratio_bucket", model="m", shadow="m2", le="1.25") == 1
    assert value("signet_guard_actions_total", entity="EMAIL_ADDRESS", action="mask", direction="input") == 2
    assert value("signet_guard_classifier_answers_total", classifier="attack", outcome="timeout") == 1
    assert value("signet_guard_classifier_flags_total", category="jailbreak", action="block") == 1
    assert value("signet_guard_classifier_seconds_bucket", classifier="attack", le="0.025") == 1
    decided = {"principle": "no-arson", "action": "refuse", "direction": "input"}
    assert value("signet_policy_decisions_total", **decided) == 1
    assert value("signet_policy_check_seconds_bucket", kind="judge", le="0.25") == 1
    assert value("signet_policy_tokens_total", kind="prompt") == 90
    assert value("signet_marks_total", scheme="gumbel") == 1
    assert value("signet_receipts_total") == 1
    assert value("signet_feedback_ratings_total", model="m", manifest="sha256:abababababab", rating="down") == 1


LEDGER = SimpleNamespace(up=True, pending=2, spilled=1, schema_mismatch=False, num_spilled=5, on_commit=None)
ANCHORS = SimpleNamespace(failures={"ledger": 0, "file": 1, "url": 3}, age_s=90.0)


def test_the_ledger_is_read_when_it_is_scraped(registry: CollectorRegistry) -> None:
    observe_ledger(LEDGER, ANCHORS, registry)
    LEDGER.on_commit(0.002, 3)

    assert registry.get_sample_value("signet_ledger_pending") == 2
    assert registry.get_sample_value("signet_ledger_spilled") == 1
    assert registry.get_sample_value("signet_ledger_schema_mismatch") == 0
    assert registry.get_sample_value("signet_ledger_journaled_total") == 5
    assert registry.get_sample_value("signet_ledger_anchor_failures_total", {"target": "url"}) == 3
    assert registry.get_sample_value("signet_ledger_anchor_age_seconds") == 90
    assert registry.get_sample_value("signet_ledger_commit_seconds_count") == 3


def test_every_named_metric_is_in_a_real_scrape(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    use_everything(metrics)
    observe_ledger(LEDGER, ANCHORS, registry)
    LEDGER.on_commit(0.002, 3)
    DriftGauges(registry).show([standing(Watched("m", "", DriftSettings()), 0.0, DriftSettings())], 1.0)

    scraped = {
        (family.name, family.type): family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }

    for metric in (*names.GATEWAY_METRICS, *names.DRIFT_METRICS):
        family = scraped.pop((metric.name.removesuffix("_total"), metric.kind))
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert family.samples, metric.name
        assert labels == set(metric.labels), metric.name
    # What remains are the process's own figures; above all no `_created` twins.
    assert {name for name, _ in scraped if not name.startswith("process_")} == set()


# What Prometheus and its operator give every target; with the default `honor_labels: false` theirs win.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container", "service", "endpoint", "node"}
SOURCES = Path(__file__).parents[3]


def test_no_label_is_one_that_prometheus_gives_its_targets() -> None:
    for metric in (*names.GATEWAY_METRICS, *names.DRIFT_METRICS):
        assert not TARGET_LABELS & set(metric.labels), metric.name


def test_no_label_of_a_metric_made_elsewhere_is_one_either() -> None:
    """Those of engines, and of whatever else makes one by the library, which takes a list of labels."""
    found = 0
    for file in (
        each for package in ("serving", "monitoring", "loadtests") for each in (SOURCES / package).rglob("*.py")
    ):
        text = file.read_text()
        if "prometheus_client" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "Counter",
                "Gauge",
                "Histogram",
                "Summary",
                "Info",
            ):
                lists = [
                    each for each in (*node.args, *(key.value for key in node.keywords)) if isinstance(each, ast.List)
                ]
                labels = {item.value for each in lists for item in each.elts if isinstance(item, ast.Constant)}
                found += len(labels)
                assert not TARGET_LABELS & labels, file
    assert found >= 3


def test_a_model_that_nobody_serves_makes_no_series(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    for number in range(1000):
        metrics.request_settled(Request(model=f"made-up-{number}", engine=None, first_token_at=0.0), 404, 0.001)

    labels = {"route": "chat", "model": "other", "status": "404"}
    assert registry.get_sample_value("signet_gateway_requests_total", labels) == 1000
    assert len(generate_latest(registry)) < 10_000


def test_label_sets_are_bounded_whatever_comes(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    for number in range(5000):
        metrics.error(f"code-{number}")
        metrics.ttft(0.1, f"model-{number}")

    assert registry.get_sample_value("signet_gateway_errors_total", {"code": "other"}) == 4500
    assert len(generate_latest(registry).splitlines()) < 3000


def test_a_request_without_text_counts_as_no_answer(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    metrics.request_settled(Request(first_token_at=0.0, prompt_tokens=0, completion_tokens=0), 503, 0.1)

    assert registry.get_sample_value("signet_marks_total", {"scheme": "gumbel"}) == 0
    assert registry.get_sample_value("signet_gateway_tokens_total", {"model": "m", "kind": "prompt"}) is None


def test_known_counts_begin_at_zero(registry: CollectorRegistry) -> None:
    """Prometheus sees no increase where a series begins with its first count."""
    metrics = GatewayMetrics(registry)
    metrics.watch_admission(lambda: Queue(waiting={}, running={}, refused={}), lambda: ["m"])
    metrics.expect_errors(["engine_error"])
    metrics.expect_guard([("IBAN", "mask")], "input")
    metrics.expect_shadow("m", "m2")
    metrics.classifiers.expect("attack", ["jailbreak"], "block")
    metrics.policy.expect("no-arson", "refuse", "both")

    scraped = list(text_string_to_metric_families(generate_latest(registry).decode()))

    zeros = {sample.name: sample.labels for family in scraped for sample in family.samples if sample.value == 0}
    assert {metric.name for metric in names.GATEWAY_METRICS if metric.kind == "counter"} - set(zeros) == {
        names.LEDGER_JOURNALED.name,
        names.LEDGER_ANCHOR_FAILURES.name,
    }, "the ledger's own are told of apart"

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("signet_gateway_continuations_total", cause="lost") == 0
    assert value("signet_gateway_requests_total", route="chat", model="m", status="503") == 0
    assert value("signet_gateway_ttft_seconds_count", model="m") == 0
    assert value("signet_gateway_inter_token_seconds_bucket", model="m", le="0.2") == 0
    assert value("signet_gateway_queue_waiting", model="m") == value("signet_gateway_queue_running", model="m") == 0
    assert value("signet_policy_decisions_total", principle="no-arson", action="failed", direction="output") == 0


def test_what_is_expected_leaves_room_for_what_comes(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    metrics.expect_errors(f"code-{number}" for number in range(5000))
    metrics.error("another")

    assert registry.get_sample_value("signet_gateway_errors_total", {"code": "another"}) == 1


def test_expected_histograms_leave_room_too(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    metrics.watch_admission(Queue, lambda: [f"model-{number}" for number in range(1000)])

    assert generate_latest(registry).count(b"signet_gateway_ttft_seconds_count{") == 32

    metrics.ttft(0.1, "another")
    assert registry.get_sample_value("signet_gateway_ttft_seconds_count", {"model": "another"}) == 1


def test_an_engine_that_left_leaves_no_series(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    metrics.engine_state("a", False, True, "closed")
    metrics.engine_gone("a")
    metrics.discovery("dns:a", True)
    metrics.discovery_gone("dns:a")

    assert registry.get_sample_value("signet_gateway_discovery_up", {"source": "dns:a"}) is None
    for name in ("up", "draining", "circuit"):
        assert registry.get_sample_value(f"signet_gateway_engine_{name}", {"engine": "a"}) is None


def test_our_histogram_equals_the_librarys() -> None:
    bounds = (0.1, 0.5, 1.0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram(Metric("h_seconds", "histogram", "Help.", ("k",)), bounds, ours)
    reference = ReferenceHistogram("h_seconds", "Help.", ["k"], buckets=bounds, registry=theirs)
    for value in (0.0, 0.1, 0.100001, 0.5, 0.7, 1.0, 3.0):
        mine.labels("x").observe(value)
        reference.labels("x").observe(value)

    expected = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == expected


def test_a_histogram_refuses_a_wrong_number_of_labels() -> None:
    histogram = Histogram(Metric("h_seconds", "histogram", "Help.", ("k",)), (1.0,), CollectorRegistry())

    with pytest.raises(ValueError, match="has the labels"):
        histogram.labels("x", "y")


def test_counters_add_up() -> None:
    registry = CollectorRegistry()
    counter = Counter(Metric("c_total", "counter", "Help.", ("k",)), registry)

    counter.add(2, "x")
    counter.add(0.5, "x")

    assert registry.get_sample_value("c_total", {"k": "x"}) == 2.5


def test_a_request_costs_microseconds(metrics: GatewayMetrics) -> None:
    """A generous bound: it catches a lock, a look-up of labels or a regular expression on the path."""
    request, best_s = Request(), 1.0
    for _ in range(20):
        started = time.thread_time()
        for _ in range(500):
            metrics.request_settled(request, 200, 0.1)
            metrics.inter_token(0.01, 1, "m")
        best_s = min(best_s, (time.thread_time() - started) / 500)

    assert best_s < 50e-6


@pytest.mark.services
@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus is not installed")
def test_promtool_accepts_the_scrape(metrics: GatewayMetrics, registry: CollectorRegistry) -> None:
    use_everything(metrics)
    DriftGauges(registry).show([standing(Watched("m", "", DriftSettings()), 0.0, DriftSettings())], 1.0)

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def documented_metrics() -> Iterator[tuple[str, str, str, str]]:
    for line in DOCS.read_text().splitlines():
        if line.startswith("| `signet_"):
            name, kind, labels, text = (cell.strip() for cell in line.strip("|").split("|"))
            yield name.strip("`"), kind, labels, text


def test_the_docs_list_every_metric_as_the_code_has_it() -> None:
    expected = [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in (*names.GATEWAY_METRICS, *names.DRIFT_METRICS)
    ]

    assert list(documented_metrics()) == expected


def test_names_follow_the_conventions() -> None:
    for metric in (*names.GATEWAY_METRICS, *names.DRIFT_METRICS):
        area = metric.name.removeprefix("signet_").partition("_")[0]
        assert area in {"gateway", "guard", "policy", "marks", "receipts", "limits", "ledger", "drift", "feedback"}
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith(("_seconds", "_ratio")) or metric.kind != "histogram"
        assert not {"tenant", "key", "key_id", "request_id"} & set(metric.labels)
