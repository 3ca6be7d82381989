"""Other guards, asked in environments of their own: `PYTHON -m loadtests.peers.NAME`, the question on standard input.

Run by the other's interpreter, so these modules import nothing of ours but each other.
"""
