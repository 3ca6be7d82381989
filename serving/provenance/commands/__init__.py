"""`signet marks` and `signet detect`."""
