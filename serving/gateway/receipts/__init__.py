"""Receipts at the gateway: which answers get one, what it says of them, and the pages where it can be fetched."""
