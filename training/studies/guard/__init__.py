"""What the guard finds, misses, changes and costs, on texts of others and beside other guards.

Each command, `python -m training.studies.guard.NAME`, writes its section of `docs/benchmarks/guard.md`; that page's
data are not part of Signet.
"""
