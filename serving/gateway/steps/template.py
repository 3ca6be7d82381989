"""The step that turns a request for a template into an ordinary question to the template's model."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeGuard

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest, NotFound
from serving.gateway.prompts.catalogue import PromptError, PromptLibrary
from serving.gateway.prompts.template import Template, VariableError
from serving.gateway.steps.authenticate import allow_model

_ROLES = frozenset({"user", "assistant", "tool", "function"})
_BEFORE_THE_TEMPLATE = ("system", "instructions", "previous_response_id")
# Switches of chat templates: `enable_thinking`, `reasoning_effort: high`, a date. A sentence could replace a prompt.
_WORD = re.compile(r"[\w.:-]{1,64}")


def apply_template(context: RequestContext, library: PromptLibrary, only_model: Callable[[], str | None]) -> None:
    """Fill the template that the question names, and ask its model.

    The template's messages come first and the client's after them; the template's sampling fills in what the request
    leaves open. `only_model` tells the served model, where there is exactly one.

    Raises:
        NotFound: no such prompt, or no such version.
        BadRequest: a variable, naming it; messages that the template does not take; or the endpoint takes no templates.
        Forbidden: the request names a model too, and the key may not use it.
    """
    question = context.question
    try:
        template = library.find(question.model)
    except PromptError as error:
        raise NotFound(str(error), code="prompt_not_found", param="model") from None
    body = question.body
    values, where = _values(body)
    variable = template.message_variable
    if variable is not None and values.get(variable) is None:
        text = _take_last_user_text(body, context.endpoint.conversation_field)
        values = values if text is None else {**values, variable: text}
    try:
        messages = template.render(values)
    except VariableError as error:
        raise BadRequest(str(error), code="invalid_prompt_variable", param=f"{where}.{error.variable[:80]}") from None
    if template.own_messages != "any":
        require_confined(body, context.endpoint.name, template.own_messages)
    own = body.get("model")
    for name in ("prompt", "variables"):
        body.pop(name, None)
    context.endpoint.set_messages(body, messages)
    _set_parameters(context, template)
    question.asked_model = template.id
    if _is_model(own):
        allow_model(context, own)  # a key for the template alone stays with the template's model
        question.model = own
    else:
        question.model = body["model"] = _model(template, only_model)


def _values(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The variables' values and where they stand: `variables`, or OpenAI's `prompt.variables`."""
    prompt = body.get("prompt")
    where = "prompt.variables" if isinstance(prompt, dict) else "variables"
    values = prompt.get("variables") if isinstance(prompt, dict) else body.get("variables")
    if values is None:
        return {}, where
    if not isinstance(values, dict):
        raise BadRequest(f"'{where}' must be an object of values by name.", param=where)
    return values, where


def _take_last_user_text(body: dict[str, Any], field: str) -> str | None:
    """Take the last user message's text away from the conversation; None where it is not text alone."""
    value = body.get(field)
    if isinstance(value, str):
        del body[field]
        return value
    last = value[-1] if isinstance(value, list) and value else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    content = last.get("content")
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        return None
    body[field] = value[:-1] if value else []
    return content


def _set_parameters(context: RequestContext, template: Template) -> None:
    body = context.question.body
    names = context.endpoint.parameter_names
    for name, value in template.parameters.model_dump(exclude_none=True).items():
        field = names.get(name, name)
        if name == "max_tokens" and body.get("max_completion_tokens") is not None:
            continue
        if body.get(field) is None:
            body[field] = value


def _is_model(own: Any) -> TypeGuard[str]:
    """Whether the client also named a model, beside the template."""
    return isinstance(own, str) and own != "" and not own.startswith("prompt:")


def _model(template: Template, only_model: Callable[[], str | None]) -> str:
    model = template.model or only_model()
    if model is None:
        raise BadRequest(
            f"{template.id} names no model and several are served. Send 'prompt' with its id, and 'model'.",
            param="model",
        )
    return model


def require_confined(body: dict[str, Any], endpoint: str, own: Literal["conversation", "none"]) -> None:
    """Raises BadRequest for system messages and what comes before the template's; with `none` for any message.

    A system message of the client's can do more than contradict: the chat templates of some models show the last one
    alone, of others the first, and `instructions` and earlier responses come before the template's.
    """
    for name in _BEFORE_THE_TEMPLATE:
        if body.get(name):
            raise _refused(name)
    field = "input" if endpoint == "responses" else "messages"
    messages = body.get(field)
    if messages and own == "none":
        raise _refused(field)
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if not _is_conversation(message):
            raise _refused(f"{field}[{number}].role")
    variables = body.get("chat_template_kwargs")
    for name, value in variables.items() if isinstance(variables, dict) else ():
        if not (value is None or isinstance(value, bool | int | float) or _is_word(value)):
            raise _refused(f"chat_template_kwargs.{name[:100]}")


def _is_conversation(message: Any) -> bool:
    """Whether it is what users, models and tools say. A role that is missing may be there under an odd name."""
    if not isinstance(message, dict):
        return False
    if "role" in message:
        return isinstance(message["role"], str) and message["role"] in _ROLES
    # Items of /v1/responses: calls and their results.
    return isinstance(message.get("type"), str) and message["type"] != "message"


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _refused(field: str) -> BadRequest:
    message = f"'{field}' cannot be sent with this prompt template, which takes no such words besides its own."
    return BadRequest(message, param=field, code="field_refused")
