"""The fields of a request: which each endpoint takes, of what types, and what happens to others.

A client's body goes in, a body of known fields with values of known types comes out: what is sent to an engine is what
the gateway has read, and can be decided on.
"""
