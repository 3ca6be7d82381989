"""The gateway's metrics. Methods take from a quarter of a microsecond (each token) to two (each request)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from monitoring.telemetry import buckets, names
from monitoring.telemetry.admission import QueueCollector, QueueState
from monitoring.telemetry.checks import ClassifierMetrics, PolicyMetrics
from monitoring.telemetry.request import ObservedRequest
from monitoring.telemetry.series import OTHER, Counter, Histogram, HistogramChild

# Aliases and adapters count as models.
_MAX_MODELS = 64
# What an alert on errors divides by, and what engines and the lack of them make.
_ROUTES = ("chat", "completions", "responses", "messages", "embeddings")
_STATUSES = ("200", "502", "503", "504")
# `sha256:` and as many digits as tell checkpoints apart.
_MANIFEST_CHARS = 19
_CIRCUIT = {"closed": 0, "half-open": 1, "open": 2}


class GatewayMetrics:
    """All series of one gateway process, in `registry`. Called from the event loop only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Asked first of all collectors, so that what it adds is in the same scrape.
        registry.register(_Served(self._expect_models))
        self._requests = Counter(names.REQUESTS, registry)
        self._tokens = Counter(names.TOKENS, registry)
        self._errors = Counter(names.ERRORS, registry)
        self._reloads = Counter(names.RELOADS, registry)
        self._guard_actions = Counter(names.GUARD_ACTIONS, registry)
        self._marks = Counter(names.MARKS, registry)
        self._receipts = Counter(names.RECEIPTS, registry)
        self.classifiers = ClassifierMetrics(registry)
        self.policy = PolicyMetrics(registry)
        self._ratings = Counter(names.RATINGS, registry)
        self._continuations = Counter(names.CONTINUATIONS, registry)
        self._queue = Histogram(names.QUEUE, buckets.QUEUE_S, registry).labels()
        self._ttft = Histogram(names.TTFT, buckets.TTFT_S, registry)
        self._inter_token = Histogram(names.INTER_TOKEN, buckets.INTER_TOKEN_S, registry)
        self._duration = Histogram(names.DURATION, buckets.DURATION_S, registry)
        self._num_in_flight = 0
        # Read at a scrape: counting under the gauge's own lock costs each request a microsecond.
        Gauge(names.IN_FLIGHT.name, names.IN_FLIGHT.help, registry=registry).set_function(lambda: self._num_in_flight)
        self._engine_up = Gauge(names.ENGINE_UP.name, names.ENGINE_UP.help, ["engine"], registry=registry)
        self._engine_draining = Gauge(
            names.ENGINE_DRAINING.name, names.ENGINE_DRAINING.help, ["engine"], registry=registry
        )
        self._engine_circuit = Gauge(
            names.ENGINE_CIRCUIT.name, names.ENGINE_CIRCUIT.help, ["engine"], registry=registry
        )
        self._discovery_up = Gauge(names.DISCOVERY_UP.name, names.DISCOVERY_UP.help, ["source"], registry=registry)
        self._limits_degraded = Gauge(names.LIMITS_DEGRADED.name, names.LIMITS_DEGRADED.help, registry=registry)
        self._registry = registry
        self._models_now: Callable[[], Iterable[str]] = tuple
        self._shadows = Counter(names.SHADOWS, registry)
        self._shadow_finish = Counter(names.SHADOW_FINISH, registry)
        self._shadow_length = Histogram(names.SHADOW_LENGTH, buckets.LENGTH_RATIO, registry)
        self._models: set[str] = set()
        self._inter_token_of: dict[str, HistogramChild] = {}
        ProcessCollector(registry=registry)

    def request_started(self) -> None:
        """A request has come in."""
        self._num_in_flight += 1

    def request_ended(self) -> None:
        """It is over, on whatever path."""
        self._num_in_flight -= 1

    def queue(self, seconds: float, trace_id: str = "") -> None:
        """A request goes to an engine, `seconds` after it came in; `trace_id` of its trace, where that is kept."""
        self._queue.observe(seconds, trace_id=trace_id)

    def ttft(self, seconds: float, model: str, trace_id: str = "") -> None:
        """The first text of an answer is here."""
        self._ttft.labels(self._served(model)).observe(seconds, trace_id=trace_id)

    def inter_token(self, seconds: float, num_gaps: int, model: str, trace_id: str = "") -> None:
        """`num_gaps` texts more, `seconds` apart."""
        # For each streamed token: one look-up finds the series.
        series = self._inter_token_of.get(model)
        if series is None:
            series = self._inter_token.labels(self._served(model))
            if model in self._models:
                self._inter_token_of[model] = series
        series.observe(seconds, num_gaps, trace_id)

    def guard_actions(self, counts: Mapping[tuple[str, str], int], direction: str) -> None:
        """What the guard did: (entity, action) to how often; `direction` is input or output."""
        for (entity, action), count in counts.items():
            self._guard_actions.add(count, entity, action, direction)

    def reloaded(self, done: bool) -> None:
        """New settings are in force, or were refused."""
        self._reloads.add(1, "done" if done else "refused")

    def error(self, code: str) -> None:
        """A request ends in an error."""
        self._errors.add(1, code)

    def request_settled(self, request: ObservedRequest, status: int, duration_s: float, trace_id: str = "") -> None:
        """A request's outcome is known. `status` is what the client saw."""
        # A client can ask for any name; only one that was routed to an engine is a model of ours.
        model = request.question.model if request.question.model in self._models else OTHER
        if request.answer.engine is not None:
            model = self._served(request.question.model)
        self._requests.add(1, request.endpoint.name, model, str(status))
        self._duration.labels(request.endpoint.name, model).observe(duration_s, trace_id=trace_id)
        if request.answer.prompt_tokens:
            self._tokens.add(request.answer.prompt_tokens, model, "prompt")
        if request.answer.completion_tokens:
            self._tokens.add(request.answer.completion_tokens, model, "completion")
        if request.answer.first_token_at:
            self._marks.add(1, request.mark.scheme)

    def receipt_recorded(self) -> None:
        """An answer has its receipt, to be signed when somebody wants it."""
        self._receipts.add(1)

    def rated(self, model: str, manifest: str, rating: float) -> None:
        """A user rated an answer, from -1 to 1; `manifest` is the digest of the checkpoint that gave it."""
        direction = "up" if rating > 0 else "down" if rating < 0 else "neutral"
        self._ratings.add(1, self._served(model), manifest[:_MANIFEST_CHARS], direction)

    def engine_state(self, engine: str, up: bool, draining: bool, circuit: str) -> None:
        """An engine has joined, or its state has changed; `circuit` is closed, half-open or open."""
        self._engine_up.labels(engine).set(up)
        self._engine_draining.labels(engine).set(draining)
        self._engine_circuit.labels(engine).set(_CIRCUIT[circuit])

    def engine_gone(self, engine: str) -> None:
        """An engine was taken out of the pool: its series would otherwise alert for ever."""
        for gauge in (self._engine_up, self._engine_draining, self._engine_circuit):
            gauge.remove(engine)

    def discovery(self, source: str, working: bool) -> None:
        """A source of engines could be asked, or could not."""
        self._discovery_up.labels(source).set(working)

    def discovery_gone(self, source: str) -> None:
        """A reload has taken the source out."""
        self._discovery_up.remove(source)

    def continuation(self, cause: str) -> None:
        """A stream left its engine because that failed, drained, or no other could go on with it (lost)."""
        self._continuations.add(1, cause)

    def limits_degraded(self, degraded: bool) -> None:
        """The store that replicas share limits in is lost, or is back."""
        self._limits_degraded.set(degraded)

    def watch_admission(self, state: Callable[[], QueueState], models: Callable[[], Iterable[str]] = tuple) -> None:
        """Show the fair queue's numbers, asked for at every scrape; `models` are the served and configured."""
        self._models_now = models
        QueueCollector(self._registry, state, models)

    def expect_errors(self, codes: Iterable[str]) -> None:
        """Requests may end in errors of these codes."""
        for code in codes:
            self._errors.expect(code)

    def expect_guard(self, actions: Iterable[tuple[str, str]], direction: str) -> None:
        """The guard looks for these entities, and does that: (entity, action)."""
        for entity, action in actions:
            self._guard_actions.expect(entity, action, direction)

    def expect_shadow(self, model: str, shadow: str) -> None:
        """Requests to `model` are copied to `shadow`."""
        for outcome in ("same", "different", "failed", "skipped"):
            self._shadows.expect(model, shadow, outcome)
        self._shadow_finish.expect(model, shadow)

    def _expect_models(self) -> None:
        for model in self._models_now():
            self._ttft.expect(model)
            self._inter_token.expect(model)
            for rating in ("up", "down", "neutral"):
                self._ratings.expect(model, "", rating)
            for kind in ("prompt", "completion"):
                self._tokens.expect(model, kind)
            for route in _ROUTES:
                for status in _STATUSES:
                    self._requests.expect(route, model, status)

    def shadow(self, model: str, shadow: str, outcome: str) -> None:
        """What became of a copy of a request; `model` and `shadow` are names from the settings."""
        self._shadows.add(1, model, shadow, outcome)

    def shadow_compared(self, model: str, shadow: str, length_ratio: float, same_finish: bool) -> None:
        """Two answers to one question."""
        self._shadow_length.labels(model, shadow).observe(length_ratio)
        self._shadow_finish.add(0 if same_finish else 1, model, shadow)

    def _served(self, model: str) -> str:
        """The label of a model that an engine serves."""
        if model in self._models:
            return model
        if len(self._models) >= _MAX_MODELS:
            return OTHER
        self._models.add(model)
        return model


class _Served(Collector):
    """Has no series: a scrape reminds it of the models that are served now."""

    def __init__(self, expect_models: Callable[[], None]) -> None:
        self._expect_models = expect_models

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterable[Family]:
        self._expect_models()
        return ()
