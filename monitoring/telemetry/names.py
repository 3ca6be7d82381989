"""Every metric of the gateway and the drift worker. Docs, dashboards and alerts are clients of this list.

`signet_<area>_<thing>_<unit>`, base units. No label carries a tenant or a key: what each used is in the ledger.
None has the name of a label that Prometheus or its operator give a target: theirs would win, and ours be `exported_…`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    """Label values that are there with 0 from the start: no alert sees a count with which a series begins."""


REQUESTS = Metric(
    "signet_gateway_requests_total",
    "counter",
    "Requests that ended, by the HTTP status the client saw; 499 when it went away.",
    ("route", "model", "status"),
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
    ("route", "model"),
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
RELOADS = Metric(
    "signet_gateway_reloads_total",
    "counter",
    "Reloads of the settings; result is done or refused, and a refused one changed nothing.",
    ("result",),
    (("done",), ("refused",)),
)
ENGINE_UP = Metric(
    "signet_gateway_engine_up",
    "gauge",
    "1 when the engine answered its last probe, else 0.",
    ("engine",),
)
ENGINE_DRAINING = Metric(
    "signet_gateway_engine_draining",
    "gauge",
    "1 while the engine takes no new requests because it is about to go.",
    ("engine",),
)
ENGINE_CIRCUIT = Metric(
    "signet_gateway_engine_circuit",
    "gauge",
    "What the engine's traffic says: 0 closed (healthy), 1 one trial request, 2 open (passed over).",
    ("engine",),
)
DISCOVERY_UP = Metric(
    "signet_gateway_discovery_up",
    "gauge",
    "1 while the source of engines can be asked, 0 while the engines it told last stay.",
    ("source",),
)
QUEUE_WAITING = Metric(
    "signet_gateway_queue_waiting",
    "gauge",
    "Requests that wait in the queue now.",
    ("model",),
)
QUEUE_RUNNING = Metric(
    "signet_gateway_queue_running",
    "gauge",
    "Requests that hold a slot now: at an engine, or about to be.",
    ("model",),
)
QUEUE_DRAIN_RATE = Metric(
    "signet_gateway_queue_drain_rate",
    "gauge",
    "Slots given per second while requests wait; model is the first by name of those that share engines.",
    ("model",),
)
ENGINE_LIMIT = Metric(
    "signet_gateway_engine_limit",
    "gauge",
    "Answers that this process lets an engine have in flight.",
    ("engine",),
)
QUEUE_REFUSED = Metric(
    "signet_gateway_queue_refused_total",
    "counter",
    "Requests that the queue refused or dropped; reason is the error's code.",
    ("reason",),
    (("queue_full",), ("overloaded",), ("deadline_exceeded",)),
)
QUEUE_METRICS = (QUEUE_WAITING, QUEUE_RUNNING, QUEUE_DRAIN_RATE, ENGINE_LIMIT, QUEUE_REFUSED)
SHADOWS = Metric(
    "signet_gateway_shadow_answers_total",
    "counter",
    "Copies sent to a shadow model, by outcome: same or different text, failed, skipped (too many, no room).",
    ("model", "shadow", "outcome"),
)
SHADOW_FINISH = Metric(
    "signet_gateway_shadow_finish_differs_total",
    "counter",
    "Shadow answers that ended for another reason than the client's did.",
    ("model", "shadow"),
)
SHADOW_LENGTH = Metric(
    "signet_gateway_shadow_length_ratio",
    "histogram",
    "Length of a shadow answer over that of the client's.",
    ("model", "shadow"),
)
GUARD_ACTIONS = Metric(
    "signet_guard_actions_total",
    "counter",
    "What the guard found and did; direction is input or output.",
    ("entity", "action", "direction"),
)
CLASSIFIER_ANSWERS = Metric(
    "signet_guard_classifier_answers_total",
    "counter",
    "Questions to the guard's classifiers; outcome is done, timeout or error.",
    ("classifier", "outcome"),
)
CLASSIFIER_FLAGS = Metric(
    "signet_guard_classifier_flags_total",
    "counter",
    "Texts at or above a category's threshold; action is flag, block or report (an answer of /v1/moderations).",
    ("category", "action"),
)
CLASSIFIER_SECONDS = Metric(
    "signet_guard_classifier_seconds",
    "histogram",
    "How long a question to a classifier took, its wait for a thread included.",
    ("classifier",),
)
POLICY_DECISIONS = Metric(
    "signet_policy_decisions_total",
    "counter",
    "What the policy decided; action is the principle's, would_ and it in a dry run, or failed; direction is input or "
    "output.",
    ("principle", "action", "direction"),
)
POLICY_SECONDS = Metric(
    "signet_policy_check_seconds",
    "histogram",
    "How long an answer took that the policy needed; kind is classifier, judge, critique or revision.",
    ("kind",),
)
POLICY_TOKENS = Metric(
    "signet_policy_tokens_total",
    "counter",
    "Tokens that judging and revising took, which nobody is billed for; kind is prompt or completion.",
    ("kind",),
    (("prompt",), ("completion",)),
)
MARKS = Metric(
    "signet_marks_total",
    "counter",
    "Answers by the scheme of their mark; off when unmarked.",
    ("scheme",),
    (("off",), ("gumbel",), ("dual-gumbel",), ("kgw",), ("synthid",), ("kgw-lefthash",)),
)
RECEIPTS = Metric("signet_receipts_total", "counter", "Answers that got a receipt on record.", (), ((),))
RATINGS = Metric(
    "signet_feedback_ratings_total",
    "counter",
    "Answers that users rated; rating is up, down or neutral, and manifest begins the digest of the checkpoint that "
    "answered, empty where it is not known. An answer that is rated again counts again.",
    ("model", "manifest", "rating"),
)
CONTINUATIONS = Metric(
    "signet_gateway_continuations_total",
    "counter",
    "Streams taken to another engine; cause is failed, drained or lost (none could go on with it).",
    ("cause",),
    (("failed",), ("drained",), ("lost",)),
)
LIMITS_DEGRADED = Metric(
    "signet_limits_degraded",
    "gauge",
    "1 while limits are counted by this gateway alone because the server that shares them is gone, else 0.",
)

LEDGER_UP = Metric("signet_ledger_up", "gauge", "1 when the database took what the ledger last gave it, else 0.")
LEDGER_COMMIT = Metric(
    "signet_ledger_commit_seconds",
    "histogram",
    "Time of a transaction that made records durable; counted once for each record in it.",
)
LEDGER_PENDING = Metric("signet_ledger_pending", "gauge", "Records that wait for the disk.")
LEDGER_SPILLED = Metric(
    "signet_ledger_spilled", "gauge", "Records in the local journal that are not yet in the database."
)
LEDGER_SCHEMA_MISMATCH = Metric(
    "signet_ledger_schema_mismatch", "gauge", "1 while the database's schema is too old or too new for this version."
)
LEDGER_JOURNALED = Metric("signet_ledger_journaled_total", "counter", "Records written to the local journal.")
LEDGER_ANCHOR_FAILURES = Metric(
    "signet_ledger_anchor_failures_total",
    "counter",
    "Anchors that were not written (ledger), or not taken by where they go (file, url).",
    ("target",),
)
LEDGER_ANCHOR_AGE = Metric(
    "signet_ledger_anchor_age_seconds",
    "gauge",
    "Time since an anchor was written and sent everywhere, or since the start. NaN: none are wanted.",
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
    RELOADS,
    ENGINE_UP,
    ENGINE_DRAINING,
    ENGINE_CIRCUIT,
    DISCOVERY_UP,
    *QUEUE_METRICS,
    SHADOWS,
    SHADOW_FINISH,
    SHADOW_LENGTH,
    GUARD_ACTIONS,
    CLASSIFIER_ANSWERS,
    CLASSIFIER_FLAGS,
    CLASSIFIER_SECONDS,
    POLICY_DECISIONS,
    POLICY_SECONDS,
    POLICY_TOKENS,
    MARKS,
    RECEIPTS,
    RATINGS,
    CONTINUATIONS,
    LIMITS_DEGRADED,
    LEDGER_UP,
    LEDGER_COMMIT,
    LEDGER_PENDING,
    LEDGER_SPILLED,
    LEDGER_SCHEMA_MISMATCH,
    LEDGER_JOURNALED,
    LEDGER_ANCHOR_FAILURES,
    LEDGER_ANCHOR_AGE,
)

_DRIFT = ("model", "version", "feature")
DRIFT_EFFECT = Metric(
    "signet_drift_effect",
    "gauge",
    "How far a feature has moved in the last window: change of a rate, else population stability index. NaN: too few "
    "answers.",
    _DRIFT,
)
DRIFT_P_VALUE = Metric(
    "signet_drift_p_value",
    "gauge",
    "Probability of such a difference in one window without drift. NaN: too few answers.",
    _DRIFT,
)
DRIFT_DETECTED = Metric(
    "signet_drift_detected",
    "gauge",
    "1 when evidence that a feature has changed reached the run length, until it has not for `drift.hold_s`, else 0. "
    "NaN: not watched.",
    _DRIFT,
)
DRIFT_EVIDENCE = Metric(
    "signet_drift_evidence_seconds",
    "gauge",
    "Unchanged traffic shows such evidence of a change once in so long, or more rarely. NaN: not watched.",
    _DRIFT,
)
DRIFT_SINCE = Metric(
    "signet_drift_since_timestamp_seconds",
    "gauge",
    "When a feature that counts as drifted began to change, Unix seconds, estimated; 0: it does not.",
    _DRIFT,
)
DRIFT_VALUE = Metric(
    "signet_drift_value",
    "gauge",
    "A feature's mean, or its rate; window is reference or current. NaN: no answers.",
    (*_DRIFT, "window"),
)
DRIFT_SAMPLES = Metric(
    "signet_drift_samples",
    "gauge",
    "Answers compared; window is reference or current. NaN: the ledger cannot be read.",
    ("model", "version", "window"),
)
DRIFT_LAST_READ = Metric(
    "signet_drift_last_read_timestamp_seconds",
    "gauge",
    "When the ledger was last read, Unix seconds; 0: not yet.",
)

DRIFT_METRICS = (
    DRIFT_EFFECT,
    DRIFT_P_VALUE,
    DRIFT_DETECTED,
    DRIFT_EVIDENCE,
    DRIFT_SINCE,
    DRIFT_VALUE,
    DRIFT_SAMPLES,
    DRIFT_LAST_READ,
)
