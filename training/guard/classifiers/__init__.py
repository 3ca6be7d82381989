"""Trains the guard's classifiers: text in, a small file of weights out, with a data card and a signed manifest.

`signet train recipes/guard-attacks.yaml` makes them from our own grammar and the openly licensed data sets of a folder
that the user gives; `training.methods.guard` registers them.
"""
