"""JSON of requests: bytes to an object, and what it is a question to."""

from __future__ import annotations

from typing import Any

import msgspec

from serving.gateway.errors import BadRequest

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


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


def _prompt_name(prompt: dict[str, Any]) -> str:
    name, version = prompt.get("id"), prompt.get("version")
    if not isinstance(name, str) or not name:
        raise BadRequest("'prompt.id' must name a prompt template.", param="prompt.id")
    if version is not None and not isinstance(version, str | int):
        raise BadRequest("'prompt.version' must be a version's number.", param="prompt.version")
    return f"prompt:{name.removeprefix('prompt:')}" + ("" if version is None else f"@{version}")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    # msgspec's messages name a byte offset and a character class, never the text around it.
    return str(error).removeprefix("JSON is malformed: ")
