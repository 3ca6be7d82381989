"""What detection of marks is worth: power, false alarms, edits, paraphrases.

The commands, `python -m training.studies.marks.NAME`, print the tables of `docs/benchmarks/provenance.md`. Those that
need the engine's plugin or its speed are benchmarks, in `loadtests`.
"""
