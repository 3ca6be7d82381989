"""The types that a template's variables can have: what is a value, and how it reads in a text."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serving.guard.policy.patterns import compile_re2

_SPACES = re.compile(r"\s+")


class _Variable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: str = ""
    optional: bool = False
    """May be left out, and is then empty. A variable with a default may be left out too."""
    default: Any = None

    @model_validator(mode="after")
    def _default_is_a_value(self) -> _Variable:
        if self.default is not None:
            self.default = self.check(self.default)
        return self

    @property
    def required(self) -> bool:
        return self.default is None and not self.optional

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value, or ValueError with what it must be, to follow a variable's name."""

    def text(self, value: Any) -> str:
        """The value as it stands in a message."""
        return str(value)

    def schema_of(self) -> dict[str, Any]:
        """JSON schema of the value."""
        schema: dict[str, Any] = {"description": self.description} if self.description else {}
        if self.default is not None:
            schema["default"] = self.default
        return schema


class StringVariable(_Variable):
    type: Literal["string"] = "string"
    min_length: int = Field(default=0, ge=0)
    max_length: int = Field(default=100_000, ge=1)
    pattern: str | None = None
    """The whole value must match, as RE2 reads it: a client's text may be long, and takes time in proportion only."""
    from_message: bool = False
    """Taken from the client's last user message where no value is given."""

    @field_validator("pattern")
    @classmethod
    def _pattern_is_one(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compile_re2(pattern)
        return pattern

    def check(self, value: Any) -> str:
        if isinstance(value, dict) and value.get("type") == "input_text":
            value = value.get("text")  # as OpenAI's responses take it
        if not isinstance(value, str):
            raise ValueError("must be text")
        if not self.min_length <= len(value) <= self.max_length:
            raise ValueError(f"must have {self.min_length} to {self.max_length} characters")
        if self.pattern is not None and compile_re2(self.pattern).fullmatch(value) is None:
            raise ValueError(f"must match {self.pattern}")
        return value

    def schema_of(self) -> dict[str, Any]:
        bounds = {"minLength": self.min_length, "maxLength": self.max_length}
        pattern = {} if self.pattern is None else {"pattern": f"^(?:{self.pattern})$"}
        return {"type": "string", **super().schema_of(), **bounds, **pattern}


class _Number(_Variable):
    minimum: float | None = None
    maximum: float | None = None

    def _check_bounds(self, value: float, what: str) -> None:
        low, high = self.minimum, self.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = [f"at least {low:g}"] * (low is not None) + [f"at most {high:g}"] * (high is not None)
            raise ValueError(f"must be {what} of {' and '.join(bounds)}")

    def _bounds(self) -> dict[str, Any]:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {name: value for name, value in bounds.items() if value is not None}


class IntegerVariable(_Number):
    type: Literal["integer"]

    def check(self, value: Any) -> int:
        if type(value) is not int:
            raise ValueError("must be a whole number")
        self._check_bounds(value, "a whole number")
        return value

    def schema_of(self) -> dict[str, Any]:
        return {"type": "integer", **super().schema_of(), **self._bounds()}


class NumberVariable(_Number):
    type: Literal["number"]

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number")
        self._check_bounds(value, "a number")
        return value

    def text(self, value: Any) -> str:
        return f"{value:g}"

    def schema_of(self) -> dict[str, Any]:
        return {"type": "number", **super().schema_of(), **self._bounds()}


class BooleanVariable(_Variable):
    type: Literal["boolean"]

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    def text(self, value: Any) -> str:
        return "yes" if value else "no"

    def schema_of(self) -> dict[str, Any]:
        return {"type": "boolean", **super().schema_of()}


class ChoiceVariable(_Variable):
    type: Literal["choice"]
    choices: list[str] = Field(min_length=1)

    def check(self, value: Any) -> str:
        if value not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        return str(value)

    def schema_of(self) -> dict[str, Any]:
        return {"type": "string", **super().schema_of(), "enum": self.choices}


class ListVariable(_Variable):
    type: Literal["list"]
    max_items: int = Field(default=100, ge=1)
    max_length: int = Field(default=2000, ge=1)
    """Of one item."""

    def check(self, value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError("must be a list of texts")
        if len(value) > self.max_items or any(len(item) > self.max_length for item in value):
            raise ValueError(f"must have at most {self.max_items} items of {self.max_length} characters")
        return value

    def text(self, value: Any) -> str:
        # An item is one line: a line break in it would make it two.
        return "\n".join(f"- {_SPACES.sub(' ', item).strip()}" for item in value)

    def schema_of(self) -> dict[str, Any]:
        items = {"type": "string", "maxLength": self.max_length}
        return {"type": "array", **super().schema_of(), "items": items, "maxItems": self.max_items}


Variable = Annotated[
    StringVariable | IntegerVariable | NumberVariable | BooleanVariable | ChoiceVariable | ListVariable,
    Field(discriminator="type"),
]
