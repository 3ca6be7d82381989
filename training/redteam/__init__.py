"""Attacks on a served model, to see which get through: with the guard and without, and what it refuses for nothing.

In come suites (prompts and what must not happen), mutators that disguise them, and the URL of an OpenAI-compatible
server; out come attempts, one JSON line each, and a report as JSON and as a page. The target is reached by HTTP only.
"""
