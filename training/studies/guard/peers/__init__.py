"""Other guards, asked in environments of their own: `PYTHON -m training.studies.guard.peers.NAME`.

They read the question on standard input. The other's interpreter runs these modules, so they import nothing of ours
but each other.
"""
