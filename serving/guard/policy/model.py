"""What a policy file says: principles in words, how each is checked, and what follows when it is broken."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from serving.guard.policy.patterns import PatternError, Words, compile_pattern, compile_words
from serving.guard.settings import EntityActions

Action = Literal["allow", "flag", "mask", "refuse", "revise"]
Direction = Literal["input", "output"]
OnFailure = Literal["open", "closed"]
Role = Literal["system", "developer", "user", "assistant", "tool"]

_ENTITIES = frozenset(name.upper() for name in EntityActions.model_fields)
_Line = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassifierCheck(_Part):
    """Broken when a local classifier gives `category` at least `above`."""

    name: _Name
    category: _Name
    above: float = Field(gt=0, le=1)


class JudgeCheck(_Part):
    """Broken when a served model answers `question` with yes."""

    question: _Line
    model: _Name | None = None
    """As an engine serves it; None: the model that the request asks."""


class EntityCheck(_Part):
    """Broken when the guard found at least this many values of an entity."""

    name: str
    at_least: int = Field(default=1, ge=1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in _ENTITIES:
            raise ValueError(f"unknown entity {name!r}; known here: {', '.join(sorted(_ENTITIES))}")
        return name


class Check(_Part):
    """How a text is told to break a principle: exactly one of these, except that words and patterns go together."""

    words: tuple[_Line, ...] = ()
    pattern: tuple[_Line, ...] = ()
    entity: EntityCheck | None = None
    classifier: ClassifierCheck | None = None
    judge: JudgeCheck | None = None

    @property
    def finds_spans(self) -> bool:
        """Whether it tells which part of the text is meant."""
        return bool(self.words or self.pattern)

    @property
    def needs_model(self) -> bool:
        """Whether a classifier or a model has to be asked, which takes time and may fail."""
        return self.classifier is not None or self.judge is not None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.finds_spans, self.entity is not None, self.classifier is not None, self.judge is not None]
        if sum(kinds) != 1:
            raise ValueError("give one of: words or pattern (or both), entity, classifier, judge")
        return self

    @field_validator("pattern")
    @classmethod
    def _linear(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                compile_pattern(pattern)
            except PatternError as error:
                raise ValueError(str(error)) from None
        return patterns


class Principle(_Part):
    """One principle of the constitution."""

    id: str
    principle: _Line
    where: Literal["input", "output", "both"] = "both"
    check: Check
    action: Action
    reason: _Line | None = None
    """What the user is told; needed where an answer is refused."""
    tenants: tuple[_Name, ...] = ()
    """Names or patterns such as `team-*`; none: every tenant."""
    models: tuple[_Name, ...] = ()
    roles: tuple[Role, ...] = ()
    """Whose messages of a question are read; none: everybody's."""
    dry_run: bool = False
    on_failure: OnFailure | None = None

    @field_validator("id")
    @classmethod
    def _plain_id(cls, value: str) -> str:
        if _ID.fullmatch(value) is None:
            raise ValueError("an id is small letters, digits and dashes, and begins with a letter")
        if _mask(value) in _ENTITIES:
            raise ValueError(f"{_mask(value)!r} is what the guard puts for an entity; choose another id")
        return value

    @field_validator("check")
    @classmethod
    def _compiles(cls, check: Check) -> Check:
        if check.finds_spans:
            compile_words(Words(check.words, check.pattern))
        return check

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.action in ("refuse", "revise") and not self.reason:
            raise ValueError(f"an action of {self.action!r} needs a 'reason' to give to the user")
        if self.action == "mask" and not self.check.finds_spans:
            raise ValueError("'mask' needs words or a pattern: other checks do not tell which part of a text is meant")
        if self.action == "mask" and self.roles:
            raise ValueError("'mask' takes no roles: it masks whoever says it")
        if self.action == "revise" and self.where != "output":
            raise ValueError("'revise' is for answers: set 'where: output'")
        if self.action == "mask" and not self.dry_run and self.reaches("output"):
            try:
                compile_words(Words(self.check.words, self.check.pattern), bounded=True)
            except PatternError as error:
                raise ValueError(f"{error} (answers are masked while they stream)") from None
        return self

    @property
    def mask(self) -> str:
        """What stands in place of a masked text, without its brackets."""
        return _mask(self.id)

    def reaches(self, direction: Direction) -> bool:
        return self.where in (direction, "both")


class PolicyFile(_Part):
    """The whole file."""

    version: Literal[1]
    refusal: Literal["answer", "error"] = "answer"
    """How a refusal is told: as an ordinary answer whose text is the reason, or as an error of status 400."""
    budget_ms: float = Field(default=5000, gt=0, le=120_000)
    """Milliseconds that all checks of one text may take together."""
    on_failure: OnFailure = "closed"
    """What a check that fails or takes too long leads to, unless the principle says otherwise."""
    revise_rounds: int = Field(default=2, ge=1, le=5)
    revise_budget_ms: float = Field(default=60_000, gt=0, le=600_000)
    """Milliseconds that all rounds of criticism and revision of one answer may take."""
    principles: tuple[Principle, ...] = Field(max_length=200)

    @field_validator("principles")
    @classmethod
    def _ids_differ(cls, principles: tuple[Principle, ...]) -> tuple[Principle, ...]:
        ids = [principle.id for principle in principles]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"there are two principles with the id {twice[0]!r}")
        return principles


def _mask(principle_id: str) -> str:
    return principle_id.upper().replace("-", "_")
