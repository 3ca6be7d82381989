"""The policy of a gateway: which principles hold for a request, ready to be applied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from serving.guard.policy.masking import Mask, Masks
from serving.guard.policy.model import Check, Direction, PolicyFile, Principle
from serving.guard.policy.patterns import Words, compile_words

_MAX_COMBINATIONS = 4096
"""Tenants and models whose principles are remembered; then they are picked anew."""


class Rule:
    """One principle in one direction, compiled."""

    __slots__ = ("matches", "principle")

    def __init__(self, principle: Principle) -> None:
        self.principle = principle
        check = principle.check
        self.matches: Any = compile_words(_words(check)).match if check.finds_spans else None

    @property
    def effective(self) -> bool:
        """Whether it can change what is sent on; otherwise it is only recorded."""
        return not self.principle.dry_run and self.principle.action != "flag"

    @property
    def holds(self) -> bool:
        """Whether an answer has to be held back for it until all of it is known."""
        return self.effective and self.principle.action in ("refuse", "revise")


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one direction of a request."""

    rules: Sequence[Rule]
    """Those that are decided once the text is complete, in the file's order."""
    masks: Masks | None

    def __bool__(self) -> bool:
        return bool(self.rules) or self.masks is not None

    @property
    def holds(self) -> bool:
        return any(rule.holds for rule in self.rules)


class Policy:
    """A checked policy file."""

    def __init__(self, file: PolicyFile) -> None:
        """Raises: PatternError: masks that are too large together."""
        self.file = file
        # Defaults that are left out or written out mean the same, and so does the order of keys.
        canonical = json.dumps(file.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()
        self._rules = {
            direction: [Rule(principle) for principle in file.principles if principle.reaches(direction)]
            for direction in ("input", "output")
        }
        self._picked: dict[tuple[Direction, str, str], Rules] = {}
        for direction in ("input", "output"):
            _collect(self._rules[direction], streams=direction == "output")

    @property
    def masks(self) -> dict[str, Principle]:
        """The principles that mask, by what they put there."""
        return {principle.mask: principle for principle in self.file.principles if principle.action == "mask"}

    def rules(self, direction: Direction, tenant: str, model: str) -> Rules:
        """What holds for a tenant's requests to a model."""
        key = direction, tenant, model
        rules = self._picked.get(key)
        if rules is None:
            if len(self._picked) >= _MAX_COMBINATIONS:
                self._picked.clear()
            holding = [rule for rule in self._rules[direction] if _concerns(rule.principle, tenant, model)]
            rules = self._picked[key] = _collect(holding, streams=direction == "output")
        return rules


def combined_digest(guard: str, policy: str) -> str:
    """The digest of everything that was applied: the guard's settings and the constitution."""
    return hashlib.sha256(f"{guard}\n{policy}".encode()).hexdigest()


def _collect(rules: Sequence[Rule], *, streams: bool) -> Rules:
    masking = [rule.principle for rule in rules if rule.principle.action == "mask" and not rule.principle.dry_run]
    masks = (
        Masks([Mask(principle.mask, _words(principle.check)) for principle in masking], streams=streams)
        if masking
        else None
    )
    return Rules([rule for rule in rules if rule.principle not in masking], masks)


def _concerns(principle: Principle, tenant: str, model: str) -> bool:
    return _named(tenant, principle.tenants) and _named(model, principle.models)


def _named(name: str, patterns: Iterable[str]) -> bool:
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _words(check: Check) -> Words:
    return Words(check.words, check.pattern)
