"""Prompt templates: named, versioned files with typed variables, asked for like models.

In comes a request for `prompt:NAME@VERSION` with values; out goes an ordinary question to the template's model, which
is then cleaned and marked as every other.
"""

from serving.gateway.prompts.catalogue import BUILTIN, PREFIX, PromptError, PromptLibrary
from serving.gateway.prompts.template import Template, VariableError

__all__ = ["BUILTIN", "PREFIX", "PromptError", "PromptLibrary", "Template", "VariableError"]
