"""Boundaries of the histograms, seconds."""

from __future__ import annotations

# vLLM's own boundaries for the same quantity up to 160 s: the difference between two histograms, bucket by
# bucket, is then what the gateway adds.
TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0),
)

# vLLM's, with finer steps below 10 ms, where large GPUs decode, and none above 10 s: that is a dead stream.
INTER_TOKEN_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 10.0),
)

# Refusals take a millisecond, long answers minutes; about two steps to a factor of ten.
DURATION_S = (0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0, 600.0)

# A transaction on a good disk takes a quarter of a millisecond; beyond seconds the answer is refused.
COMMIT_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)

# Well under a millisecond while nobody waits; beyond ten seconds a client should have been refused.
QUEUE_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0)
# How much longer one answer is than another: a fifth either way is noise.
LENGTH_RATIO = (0.1, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0, 10.0)

# A short question takes a millisecond; the budget is two seconds unless set otherwise.
CLASSIFIER_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# A classifier takes milliseconds, a judge one short answer of a model, a revision a long one.
POLICY_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
