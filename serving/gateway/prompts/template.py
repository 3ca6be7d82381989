"""One prompt template: its file's form, and how values become messages.

The language is `{{name}}` and nothing else: no expressions, no loops, nothing that a value could run. Values are put in
once and never looked at again, so one that holds `{{other}}` stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from serving.gateway.prompts.variables import StringVariable, Variable

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_TAG = re.compile(r"</?\s*([A-Za-z][\w.-]*)[^<>]*>")


class VariableError(ValueError):
    """A value is missing, unknown or of the wrong kind; `str()` is one line, `variable` its name."""

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(message)
        self.variable = variable


class TemplateMessage(BaseModel):
    """One message of the template."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)
    when: str | None = None
    """A variable: the message is left out where this is empty or false."""


class Parameters(BaseModel):
    """Sampling where the request says nothing."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = Field(default=None, max_length=4)
    seed: int | None = None


class Template(BaseModel):
    """A prompt template, as its YAML file says."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    version: int = Field(ge=1)
    description: str = ""
    model: str | None = None
    variables: dict[str, Variable] = Field(default_factory=dict)
    messages: list[TemplateMessage] = Field(min_length=1)
    own_messages: Literal["any", "conversation", "none"] = "any"
    """What a request may send besides: anything, all but system messages, or nothing but values."""
    parameters: Parameters = Parameters()

    _fences: re.Pattern[str] | None = PrivateAttr(default=None)

    @field_validator("variables", mode="before")
    @classmethod
    def _string_by_default(cls, variables: Any) -> Any:
        if not isinstance(variables, dict):
            return variables
        return {name: {"type": "string", **(spec or {})} for name, spec in variables.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Template:
        used = {name for message in self.messages for name in _PLACEHOLDER.findall(message.content)}
        used |= {message.when for message in self.messages if message.when is not None}
        if unknown := sorted(used - self.variables.keys()):
            raise ValueError(f"'messages' use {unknown[0]!r}, which 'variables' lacks")
        if unused := sorted(self.variables.keys() - used):
            raise ValueError(f"the variable {unused[0]!r} is not used in 'messages'")
        if len(self._from_message()) > 1:
            raise ValueError("only one variable can be taken 'from_message'")
        tags = {tag for message in self.messages for tag in _TAG.findall(_PLACEHOLDER.sub("", message.content))}
        if tags:
            names = "|".join(re.escape(tag) for tag in sorted(tags))
            self._fences = re.compile(rf"<(?=\s*/?\s*(?:{names})\b)", re.IGNORECASE)
        return self

    @property
    def id(self) -> str:
        """What is recorded and listed: `prompt:NAME@VERSION`."""
        return f"prompt:{self.name}@{self.version}"

    @property
    def message_variable(self) -> str | None:
        """The variable that the client's last user message fills."""
        return next(iter(self._from_message()), None)

    def render(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Messages with the values filled in.

        Raises:
            VariableError: naming the variable.
        """
        checked = self._checked(values)
        texts = {name: self._inert(self.variables[name].text(value)) for name, value in checked.items()}
        rendered: list[dict[str, Any]] = []
        for message in self.messages:
            if message.when is not None and not checked.get(message.when):
                continue
            text = _PLACEHOLDER.sub(lambda placeholder: texts.get(placeholder[1], ""), message.content).strip()
            if rendered and rendered[-1]["role"] == message.role:
                # Many chat templates take no two messages of one role after another.
                rendered[-1]["content"] += "\n\n" + text
            else:
                rendered.append({"role": message.role, "content": text})
        return rendered

    def schema_of_variables(self) -> dict[str, Any]:
        """JSON schema of `variables`."""
        required = [name for name, variable in self.variables.items() if variable.required]
        properties = {name: variable.schema_of() for name, variable in self.variables.items()}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def card(self) -> dict[str, Any]:
        """The template in a list of models."""
        about = {"name": self.name, "version": self.version, "description": self.description, "model": self.model}
        card = {"id": self.id, "object": "model", "created": 0, "owned_by": "signet"}
        return {**card, "prompt": {**about, "variables": self.schema_of_variables()}}

    def _from_message(self) -> list[str]:
        strings = (
            (name, variable) for name, variable in self.variables.items() if isinstance(variable, StringVariable)
        )
        return [name for name, variable in strings if variable.from_message]

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(str(name) for name in values if name not in self.variables):
            known = ", ".join(self.variables) or "none"
            raise VariableError(unknown[0], f"{self.id} has no variable {unknown[0][:80]!r}. It has: {known}.")
        checked = {}
        for name, variable in self.variables.items():
            value = values.get(name)
            if value is not None:
                try:
                    checked[name] = variable.check(value)
                except ValueError as error:
                    raise VariableError(name, f"The variable {name!r} of {self.id} {error}.") from None
            elif variable.default is not None:
                checked[name] = variable.default
            elif variable.required:
                raise VariableError(name, f"The variable {name!r} of {self.id} is missing.")
        return checked

    def _inert(self, text: str) -> str:
        """A value cannot open or close a tag that the template itself puts around values."""
        return text if self._fences is None else self._fences.sub("&lt;", text)
