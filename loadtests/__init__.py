"""Load, benchmarks and faults: programs that measure or break a running Signet.

`tools` has what they share: a stand-in engine, a load client, programs started and metered. `benchmarks` write the
tables of `docs/benchmarks/`, `faults` kill and starve, `locustfile.py` has the Locust users. Nothing here is imported
by the packages, or imports tests; it runs from a checkout as `python -m loadtests.benchmarks.gateway` and friends.
"""
