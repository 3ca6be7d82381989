"""Trains the tagger of names and addresses: texts that we generate in, a small file of weights out.

`signet train recipes/guard-names.yaml` makes them from our own sentences and the names, streets and towns of the
`faker` package, which only this needs; `training.methods.guard` registers them.
"""
