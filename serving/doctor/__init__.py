"""`signet doctor`: what of an installation does not work, or soon will not, in plain lines.

Each check is a function that yields findings and changes nothing. They run side by side, each for a bounded time.
"""
