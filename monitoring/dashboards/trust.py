"""What stands behind the answers: guard, policy, marks, receipts, the ledger, and drift of the traffic."""

from __future__ import annotations

from monitoring.dashboards.grafana import Dashboard, Panel, Query, Row
from monitoring.dashboards.lines import quantiles, rates

_ANSWERS = 'sum(rate(signet_gateway_requests_total{status="200", route=~"chat|completions|responses|messages"}[1h]))'

NOW = Row(
    "Now",
    (
        Panel(
            "Answers marked",
            "Share of the last hour's answers that carry a watermark.",
            (Query('sum(rate(signet_marks_total{scheme!="off"}[1h])) / sum(rate(signet_marks_total[1h]))', "marked"),),
            "percentunit",
            "stat",
            width=4,
            starts="blue",
        ),
        Panel(
            "Answers with a receipt",
            "Share of the last hour's complete answers whose receipt is on record.",
            (Query(f"sum(rate(signet_receipts_total[1h])) / {_ANSWERS}", "recorded"),),
            "percentunit",
            "stat",
            width=4,
            starts="red",
            steps=((0.99, "green"),),
        ),
        Panel(
            "Ledger",
            "Whether the database takes records. Else gateways refuse answers, or keep them in a journal.",
            (Query("min(signet_ledger_up)", "up"),),
            kind="stat",
            width=4,
            starts="red",
            steps=((1, "green"),),
            words={0: "down", 1: "up"},
        ),
        Panel(
            "Since the last anchor",
            "What was written after the last anchor can still be cut off unnoticed. No value: no anchors are wanted.",
            (Query("max(signet_ledger_anchor_age_seconds)", "age"),),
            "s",
            "stat",
            width=4,
            steps=((7200, "orange"), (10800, "red")),
        ),
        Panel(
            "Features that drifted",
            "Features of the traffic that have moved away from the checkpoint's reference.",
            (Query("sum(signet_drift_detected >= 0)", "drifted"),),
            kind="stat",
            width=4,
            steps=((1, "orange"),),
        ),
        Panel(
            "Guard hits an answer",
            "What the guard found in questions and answers of the last hour, for each request.",
            (
                Query(
                    "sum(rate(signet_guard_actions_total[1h])) / sum(rate(signet_gateway_requests_total[1h]))", "hits"
                ),
            ),
            kind="stat",
            width=4,
            starts="blue",
        ),
    ),
)


def _hits(direction: str) -> tuple[Query, ...]:
    """The ten kinds that are found most."""
    found = f'rate(signet_guard_actions_total{{direction="{direction}"}}[$__rate_interval])'
    return (Query(f"topk(10, sum by (entity) ({found}))", "{{entity}}"),)


GUARD = Row(
    "Guard",
    (
        Panel(
            "Found in questions",
            "What the guard masked or blocked on the way in, by kind.",
            _hits("input"),
            "ops",
            is_stacked=True,
        ),
        Panel(
            "Found in answers",
            "What the guard masked or blocked on the way out: personal data and secrets that a model wrote.",
            _hits("output"),
            "ops",
            is_stacked=True,
        ),
        Panel(
            "What it did",
            "Actions of the guard, by kind and direction.",
            rates("signet_guard_actions_total", "action, direction"),
            "ops",
        ),
        Panel(
            "Classifiers' answers",
            "Questions to the guard's classifiers. Timeouts and errors: texts that nobody judged.",
            rates("signet_guard_classifier_answers_total", "classifier, outcome"),
            "ops",
        ),
        Panel(
            "Classifiers' flags",
            "Texts at or above a category's threshold, and what was done.",
            rates("signet_guard_classifier_flags_total", "category, action"),
            "ops",
        ),
        Panel(
            "Classifiers' time",
            "How long a question took, its wait for a thread included.",
            quantiles("signet_guard_classifier_seconds", "classifier", 0.95),
            "s",
        ),
    ),
)

POLICY = Row(
    "Policy",
    (
        Panel(
            "Decisions",
            "Questions and answers that broke a principle, and what followed. `failed`: it could not be checked.",
            rates("signet_policy_decisions_total", "principle, action, direction"),
            "ops",
        ),
        Panel(
            "Time of a check",
            "How long an answer took that the policy needed, by who gave it.",
            quantiles("signet_policy_check_seconds", "kind", 0.95),
            "s",
        ),
        Panel(
            "Tokens of judging",
            "Tokens that judging and revising took a second. Nobody is billed for them.",
            rates("signet_policy_tokens_total", "kind"),
        ),
    ),
)

PROOF = Row(
    "Marks, receipts, ledger",
    (
        Panel(
            "Answers by mark",
            "Answers by the scheme of their watermark; `off`: unmarked.",
            (Query("sum by (scheme) (rate(signet_marks_total[$__rate_interval])) > 0", "{{scheme}}"),),
            "ops",
            is_stacked=True,
        ),
        Panel(
            "Receipts and records",
            "Answers that got a receipt on record, and transactions' records that became durable.",
            (
                Query("sum(rate(signet_receipts_total[$__rate_interval]))", "receipts"),
                Query("sum(rate(signet_ledger_commit_seconds_count[$__rate_interval]))", "records"),
            ),
            "ops",
        ),
        Panel(
            "Time to make a record durable",
            "Every answer waits for this before its end is sent.",
            quantiles("signet_ledger_commit_seconds", "", 0.5, 0.95, 0.99),
            "s",
        ),
        Panel(
            "Records that wait",
            "For the disk, and in the local journal for the database.",
            (
                Query("sum by (instance) (signet_ledger_pending)", "for the disk {{instance}}"),
                Query("sum by (instance) (signet_ledger_spilled)", "in the journal {{instance}}"),
            ),
            width=12,
        ),
        Panel(
            "Journal and anchors",
            "Records written to a local journal, and anchors that did not reach where they go.",
            (
                Query("sum(rate(signet_ledger_journaled_total[$__rate_interval]))", "journaled a second"),
                Query(
                    "sum by (target) (increase(signet_ledger_anchor_failures_total[1h]))",
                    "anchors failed in an hour {{target}}",
                ),
            ),
            width=12,
        ),
    ),
)

FEEDBACK = Row(
    "Feedback",
    (
        Panel(
            "Ratings",
            "Answers that users rated up, down or neither, by the checkpoint that answered. A version that is rated "
            "down more often than the one before is worse, whatever its evaluation says.",
            rates("signet_feedback_ratings_total", "model, manifest, rating"),
            "ops",
            width=24,
        ),
    ),
)

DRIFT = Row(
    "Drift",
    (
        Panel(
            "Effect",
            "How far a feature has moved: population stability index of a length (much: 0.2), change of a rate (0.05).",
            (Query("max by (model, version, feature) (signet_drift_effect)", "{{model}} {{version}} {{feature}}"),),
            is_signed=True,
        ),
        Panel(
            "p-value",
            "How probable such a difference is without drift. Small and a small effect: real, and of no matter.",
            (Query("min by (model, version, feature) (signet_drift_p_value)", "{{model}} {{version}} {{feature}}"),),
            top=1,
        ),
        Panel(
            "Drifted",
            "1 from when evidence of a change reached the run length, until it has not for a day.",
            (Query("max by (model, version, feature) (signet_drift_detected)", "{{model}} {{version}} {{feature}}"),),
            top=1,
        ),
        Panel(
            "Evidence",
            "Unchanged traffic shows such evidence of a change once in so long, or more rarely. At the run length "
            "an alarm is raised, and it begins anew.",
            (
                Query(
                    "max by (model, version, feature) (signet_drift_evidence_seconds)",
                    "{{model}} {{version}} {{feature}}",
                ),
            ),
            "s",
        ),
        Panel(
            "Lengths",
            "Mean tokens of prompts and answers, of the reference and of now.",
            (
                Query(
                    'max by (model, version, feature, window) (signet_drift_value{feature=~".*_tokens"})',
                    "{{model}} {{version}} {{feature}} {{window}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Rates",
            "Shares of answers that refuse, and of those with a guard hit, of the reference and of now.",
            (
                Query(
                    'max by (model, version, feature, window) (signet_drift_value{feature=~".*_rate"})',
                    "{{model}} {{version}} {{feature}} {{window}}",
                ),
            ),
            "percentunit",
            width=6,
        ),
        Panel(
            "Answers compared",
            "Too few on either side give no result.",
            (Query("max by (model, version, window) (signet_drift_samples)", "{{model}} {{version}} {{window}}"),),
            width=6,
        ),
        Panel(
            "Since the ledger was read",
            "Above minutes, the drift worker is stuck or cannot read the ledger.",
            (Query("time() - max(signet_drift_last_read_timestamp_seconds)", "age"),),
            "s",
            width=6,
        ),
    ),
)

SHADOW = Row(
    "Shadow models",
    (
        Panel(
            "Copies",
            "What became of copies sent to a shadow model. Empty: none is configured.",
            rates("signet_gateway_shadow_answers_total", "model, shadow, outcome"),
            "ops",
        ),
        Panel(
            "Other ending",
            "Shadow answers that ended for another reason than the client's did.",
            rates("signet_gateway_shadow_finish_differs_total", "model, shadow"),
            "ops",
        ),
        Panel(
            "Length",
            "Length of a shadow answer over that of the client's, in the middle.",
            quantiles("signet_gateway_shadow_length_ratio", "model, shadow", 0.5),
        ),
    ),
)

TRUST = Dashboard(
    "signet-trust",
    "Signet: trust and drift",
    "What was cleaned, refused, marked and signed; and is today's traffic what the model was released for?",
    (NOW, GUARD, POLICY, PROOF, FEEDBACK, DRIFT, SHADOW),
)
