"""A constitution in a file: principles in words, how each is checked, and what follows when it is broken.

A leaf within the guard: it decides about texts that it is given, and calls no model by itself.
"""

from serving.guard.policy.decide import Ask, CheckFailed, Decision, JudgedText, Judges, Verdict, decide
from serving.guard.policy.masking import MaskedAnswers, Masks
from serving.guard.policy.model import ClassifierCheck, JudgeCheck, PolicyFile, Principle
from serving.guard.policy.policy import Policy, Rules, combined_digest
from serving.guard.policy.reading import PolicyError, read_policy, require_classifiers

__all__ = [
    "Ask",
    "CheckFailed",
    "ClassifierCheck",
    "Decision",
    "JudgeCheck",
    "JudgedText",
    "Judges",
    "MaskedAnswers",
    "Masks",
    "Policy",
    "PolicyError",
    "PolicyFile",
    "Principle",
    "Rules",
    "Verdict",
    "combined_digest",
    "decide",
    "read_policy",
    "require_classifiers",
]
