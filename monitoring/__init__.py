"""Watching: the names, traces and logs that every process shares (`telemetry`), and drift of the traffic."""
