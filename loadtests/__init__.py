"""Load and speed: a stand-in engine, a load client, the benchmark of the gateway and the Locust users.

Comes in: the URL of a gateway or of an engine. Goes out: tables for `docs/benchmarks/`, Locust statistics.
Nothing here is imported by the packages; it runs from a checkout as `python -m loadtests.bench` and friends.
"""
