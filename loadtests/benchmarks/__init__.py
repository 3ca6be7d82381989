"""Benchmarks: each module is a command that measures one thing and prints or writes its table."""
