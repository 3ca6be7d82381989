"""Finds names of persons and street addresses: a linear model over the words round each word.

In comes folded text; out go spans. A word's tag depends on four words to each side and on nothing further, which is
what makes it a detector of streams. The model is small, its training is `training.guard.ner`.
"""

from serving.guard.ner.detector import PersonNames, StreetAddresses

__all__ = ["PersonNames", "StreetAddresses"]
