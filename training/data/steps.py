"""The steps that look at one record after the other, each counted, with samples of what it dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.data.cleaning import Cleaner, LineCounts, PersonalData, usual_kinds
from training.data.language import known_languages, language_of
from training.data.quality import Evaluations, fault_of
from training.data.records import Record
from training.errors import RecipeError
from training.recipes.data import DataRecipe, LanguageSettings

Look = Callable[[Record], str | None]
"""Changes a record in place; why it is dropped, if it is."""

_MOST_SAMPLES = 3
_SAMPLE_CHARACTERS = 160


@dataclass
class Step:
    """One step and what it did."""

    name: str
    look: Look | None = None
    """None of steps that need all records at once."""
    seen: int = 0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    samples: dict[str, list[str]] = field(default_factory=dict)
    """Of what was dropped, by reason: masked beginnings."""
    details: Counter[str] = field(default_factory=Counter)
    """Further counts, such as the kinds of masked values."""

    def keeps(self, record: Record, masking: PersonalData) -> bool:
        """Take a look at a record; whether it goes on."""
        assert self.look is not None
        self.seen += 1
        reason = self.look(record)
        if reason is not None:
            self.drop(record, reason, masking)
        return reason is None

    def drop(self, record: Record, reason: str, masking: PersonalData) -> None:
        """Count a dropped record, and keep a sample of the first ones."""
        self.dropped[reason] += 1
        samples = self.samples.setdefault(reason, [])
        if len(samples) < _MOST_SAMPLES:
            # Masked before it is cut: half a number is not found.
            masked = masking.mask(" ".join(record.text[: 4 * _SAMPLE_CHARACTERS].split()))
            samples.append(masked if len(masked) <= _SAMPLE_CHARACTERS else masked[:_SAMPLE_CHARACTERS] + "…")

    def report(self) -> dict[str, Any]:
        """What the card says of it."""
        return {
            "step": self.name,
            "in": self.seen,
            "out": self.seen - self.dropped.total(),
            "changed": self.changed,
            "dropped": dict(sorted(self.dropped.items())),
            "details": dict(sorted(self.details.items())),
            "samples": dict(sorted(self.samples.items())),
        }


def steps_of(recipe: DataRecipe, evaluations: Sequence[str], lines: LineCounts | None) -> list[Step]:
    """The steps before duplicates are looked for, in order."""
    steps = []
    if recipe.clean is not None:
        steps.append(_cleaning(Cleaner(recipe.clean, lines)))
    if recipe.language is not None:
        steps.append(_language(recipe.language))
    if (quality := recipe.quality) is not None:
        steps.append(Step("quality", lambda record: fault_of(record.text, quality)))
    if recipe.decontaminate is not None:
        held_out = Evaluations(evaluations, recipe.decontaminate.words)
        steps.append(_decontamination(held_out))
    if recipe.personal is not None:
        kinds = recipe.personal.kinds
        steps.append(_masking(PersonalData(usual_kinds() if kinds is None else kinds)))
    return steps


def _cleaning(cleaner: Cleaner) -> Step:
    step = Step("clean")

    def look(record: Record) -> str | None:
        step.changed += record.change(cleaner)
        return None if record.text else "nothing is left"

    step.look = look
    return step


def _language(settings: LanguageSettings) -> Step:
    unknown = sorted(set(settings.keep) - set(known_languages()))
    if unknown:
        raise RecipeError(f"language.keep: {unknown[0]!r} is not one of {', '.join(known_languages())}")
    step = Step("language")

    def look(record: Record) -> str | None:
        language = language_of(record.text)
        step.details[language or "unknown"] += 1
        return None if language in settings.keep else f"language {language or 'unknown'}"

    step.look = look
    return step


def _decontamination(evaluations: Evaluations) -> Step:
    def look(record: Record) -> str | None:
        # What is held out may well be the evaluation itself.
        if record.side == "heldout":
            return None
        return "in an evaluation" if evaluations.share_with(record.text) else None

    return Step("decontaminate", look)


def _masking(personal: PersonalData) -> Step:
    step = Step("personal")

    def look(record: Record) -> str | None:
        step.changed += record.change(personal.mask)
        step.details = personal.counts
        return None

    step.look = look
    return step
