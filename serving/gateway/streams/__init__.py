"""Answers on their way back: cut into events, cleaned, accounted, released.

In come the engine's bytes; out go the client's, together the same text for every way the network cut them.
"""
