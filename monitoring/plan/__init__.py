"""`signet plan`: memory, throughput, engines for a load, cost and energy of a model on an accelerator, by formula.

Reads `config.json` only, so that a model can be planned for before its weights are anywhere near. Published figures
stand in tables (`accelerators`, `prices`, `grids`, `efficiency`), each with where it was read and when.
"""
