"""Alerts on what stands behind the answers: ledger, audit, receipts, marks, guard, policy, drift."""

from __future__ import annotations

from monitoring.alerts.rule import Alert, Group, Record

# What could have got a receipt, or a mark.
_ANSWERED = 'signet_gateway_requests_total{status="200", route=~"chat|completions|responses|messages"}'

LEDGER = Group(
    "signet-ledger",
    (
        Alert(
            "SignetLedgerDown",
            "min by (namespace) (signet_ledger_up) == 0",
            "the database takes no records: gateways refuse answers, or keep their records in a journal",
            "critical",
            "1m",
        ),
        Alert(
            "SignetSchemaMismatch",
            "max by (namespace, instance) (signet_ledger_schema_mismatch) == 1",
            "{{ $labels.instance }} takes no request: its database has another version's schema",
            "critical",
            "2m",
        ),
        Alert(
            "SignetLedgerBehind",
            "max by (namespace, instance) (signet_ledger_spilled) > 0"
            " or max by (namespace, instance) (signet_ledger_pending) > 1000",
            "records of {{ $labels.instance }} wait for the database",
            "warning",
            "10m",
        ),
        Alert(
            "SignetLedgerSlow",
            "histogram_quantile(0.99, sum by (le, namespace) (rate(signet_ledger_commit_seconds_bucket[10m]))) > 0.5"
            " and sum by (namespace) (increase(signet_ledger_commit_seconds_count[10m])) > 50",
            "one record in a hundred takes {{ $value | humanizeDuration }} to be durable, and answers wait for it",
            "warning",
            "10m",
        ),
        Alert(
            "SignetAnchorsFail",
            "sum by (namespace, target) (increase(signet_ledger_anchor_failures_total[2h])) > 0",
            "anchors of the ledger do not reach {{ $labels.target }}",
            "warning",
        ),
        Alert(
            "SignetAnchorsStale",
            "max by (namespace) (signet_ledger_anchor_age_seconds) > 3 * 3600",
            "the ledger was anchored {{ $value | humanizeDuration }} ago: what came after can be cut off unnoticed",
            "warning",
            "5m",
        ),
        Alert(
            "SignetReceiptsStopped",
            "sum by (namespace) (increase(signet_receipts_total[15m])) == 0"
            " and sum by (namespace) (increase(signet_receipts_total[1d])) > 20"
            f" and sum by (namespace) (increase({_ANSWERED}[15m])) > 20",
            "answers get no receipts any more",
            "warning",
            "5m",
        ),
    ),
)

_HITS = "signet:guard_hits:per_request_30m"
GUARD = Group(
    "signet-guard",
    (
        Record(
            _HITS,
            "sum by (namespace, direction) (increase(signet_guard_actions_total[30m]))"
            # No value without traffic: a mean over a day would be no number because of one.
            " / on (namespace) group_left () (sum by (namespace) (increase(signet_gateway_requests_total[30m])) > 0)",
        ),
        Alert(
            "SignetGuardHitsSurge",
            f"{_HITS} > 4 * avg_over_time({_HITS}[1d] offset 30m)"
            " and sum by (namespace, direction) (increase(signet_guard_actions_total[30m])) > 50",
            "the guard finds four times what it found yesterday, in each {{ $labels.direction }}",
            "warning",
            "5m",
        ),
        Alert(
            "SignetGuardSilent",
            "sum by (namespace) (increase(signet_gateway_requests_total[30m]))"
            f" * on (namespace) sum by (namespace) (avg_over_time({_HITS}[1d] offset 30m)) > 20"
            " and sum by (namespace) (increase(signet_guard_actions_total[30m])) == 0",
            "the guard finds nothing, where it would have found {{ $value | humanize }} by yesterday's measure",
            "warning",
            "5m",
        ),
        Alert(
            "SignetClassifierFails",
            'sum by (namespace, classifier) (increase(signet_guard_classifier_answers_total{outcome!="done"}[10m]))'
            " > 0.05 * sum by (namespace, classifier) (increase(signet_guard_classifier_answers_total[10m]))"
            " and sum by (namespace, classifier)"
            ' (increase(signet_guard_classifier_answers_total{outcome!="done"}[10m])) > 10',
            "{{ $value | humanize }} texts in ten minutes were not judged by {{ $labels.classifier }}",
            "warning",
            "5m",
        ),
        Alert(
            "SignetPolicyFails",
            'sum by (namespace, principle) (increase(signet_policy_decisions_total{action="failed"}[15m])) > 5',
            "the principle {{ $labels.principle }} could not be checked",
            "warning",
        ),
        Alert(
            "SignetMarksStopped",
            'sum by (namespace) (increase(signet_marks_total{scheme!="off"}[30m])) == 0'
            ' and sum by (namespace) (increase(signet_marks_total{scheme!="off"}[1d])) > 20'
            ' and sum by (namespace) (increase(signet_marks_total{scheme="off"}[30m])) > 20',
            "no answer is marked any more",
            "warning",
            "5m",
        ),
    ),
)

DRIFT = Group(
    "signet-drift",
    (
        Alert(
            "SignetDrift",
            "max by (namespace, model, version, feature) (signet_drift_detected) == 1",
            "{{ $labels.feature }} of {{ $labels.model }} {{ $labels.version }} is not what it was released for",
            "warning",
            "30m",
        ),
        Alert(
            "SignetDriftStale",
            "time() - max by (namespace) (signet_drift_last_read_timestamp_seconds) > 900"
            " or on () (absent(signet_drift_last_read_timestamp_seconds)"
            " and on () count_over_time(signet_drift_last_read_timestamp_seconds[1d]) > 0)",
            "nobody has looked for drift for a quarter of an hour",
            "warning",
            "10m",
        ),
    ),
)
