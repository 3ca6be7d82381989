"""Bytes to a checked request body: what the gateway itself must understand, and nothing more.

Fields that the gateway does not know pass through to the engine, which judges them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from serving.gateway.context import RequestContext
from serving.gateway.errors import BadRequest

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def parse_body(context: RequestContext, max_choices: int) -> RequestContext:
    """Read the JSON body and the fields that steer the relay.

    Raises:
        BadRequest: not a JSON object, or a steering field that cannot be used.
    """
    body = decode_object(context.raw_body)
    model = model_of(body)
    stream = stream_of(body)
    choices = _number_of("n", body, max_choices)
    made = max(choices, _number_of("best_of", body, max_choices))
    prompts = _num_prompts(body) if context.endpoint == "completions" else 1
    if prompts * made > max_choices:
        message = f"{prompts} prompts with {made} answers each are more than {max_choices} answers; send fewer at once."
        raise BadRequest(message, param="prompt")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    if options is not None and not stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    context.body = body
    context.model = model
    context.stream = stream
    context.choices = choices * prompts
    context.sequences = made * prompts
    context.wants_usage = bool(options and options.get("include_usage"))
    return context


def decode_object(raw: bytes) -> dict[str, Any]:
    """A request's JSON.

    Raises:
        BadRequest: it is no JSON object.
    """
    try:
        body = _decode(raw)
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not valid JSON: {_reason(error)}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_json")
    return body


def model_of(body: dict[str, Any]) -> str:
    """The model that is asked for, or the prompt template: by its name, or as OpenAI's `prompt: {"id", "version"}`.

    Raises:
        BadRequest: none is named.
    """
    prompt = body.get("prompt")
    model = _prompt_name(prompt) if isinstance(prompt, dict) else body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must name a model; GET /v1/models lists them.", param="model")
    return model


def stream_of(body: dict[str, Any]) -> bool:
    """Whether the answer is to come in pieces.

    Raises:
        BadRequest: neither true nor false.
    """
    stream = body.get("stream") or False
    if stream is not True and stream is not False:
        raise BadRequest("'stream' must be true or false.", param="stream")
    return stream


def engine_body(context: RequestContext, **more: Any) -> bytes:
    """The body as the engine gets it, with `more` fields: usage is asked for where it does not
    come by itself, since the ledger needs it.

    The question itself stays as it is: the next engine may be asked for another mark.
    """
    body = {**context.body, **more}
    if context.stream and context.dialect is None:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    if context.mark_scheme != "off":
        mark = {"signet_mark": context.mark_scheme, "signet_key": context.mark_key_id}
        body["vllm_xargs"] = {**(body.get("vllm_xargs") or {}), **mark}
    return encode(body)


def _prompt_name(prompt: dict[str, Any]) -> str:
    name, version = prompt.get("id"), prompt.get("version")
    if not isinstance(name, str) or not name:
        raise BadRequest("'prompt.id' must name a prompt template.", param="prompt.id")
    if version is not None and not isinstance(version, str | int):
        raise BadRequest("'prompt.version' must be a version's number.", param="prompt.version")
    return f"prompt:{name.removeprefix('prompt:')}" + ("" if version is None else f"@{version}")


def _number_of(name: str, body: dict[str, Any], most: int) -> int:
    number = body.get(name)
    if number is None:
        return 1
    if type(number) is not int or not 1 <= number <= most:
        raise BadRequest(f"{name!r} must be a whole number from 1 to {most}.", param=name)
    return number


def _num_prompts(body: dict[str, Any]) -> int:
    """A list of strings (or of token lists) is a batch: each prompt gets its own choices."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and not all(type(item) is int for item in prompt):
        return len(prompt)
    return 1


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    # msgspec's messages name a byte offset and a character class, never the text around it.
    return str(error).removeprefix("JSON is malformed: ")
