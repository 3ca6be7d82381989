"""The OpenAPI document of the endpoints that bypass FastAPI, put beside those that do not.

The schemas hold the fields that matter most, and refuse no others: they describe enough for generated clients. All
fields, with their types, are in `docs/reference/fields.md`.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.gateway.endpoints import ENDPOINTS
from serving.gateway.steps.mark import SCHEMES

Json = dict[str, Any]

_STRING: Json = {"type": "string"}
_INTEGER: Json = {"type": "integer"}
_MODEL: Json = {"type": "string", "minLength": 1, "description": "A served model, or `prompt:NAME[@VERSION]`."}
_STREAM: Json = {"type": "boolean", "default": False, "description": "Answer by server-sent events."}
_CONTENT: Json = {"anyOf": [_STRING, {"type": "array", "items": {"type": "object"}}]}
_ROLES = ["system", "developer", "user", "assistant", "tool", "function"]
_MESSAGE: Json = {
    "type": "object",
    "properties": {"role": {"enum": _ROLES}, "content": _CONTENT},
    "required": ["role"],
    "examples": [{"role": "user", "content": "Hello"}],
}
_MESSAGES: Json = {"type": "array", "items": {"$ref": "#/components/schemas/Message"}}
_TEXTS: Json = {"anyOf": [_STRING, {"type": "array", "items": _STRING}]}
_LIMIT: Json = {"type": "integer", "minimum": 1}
_SAMPLING: Json = {"temperature": {"type": "number"}, "top_p": {"type": "number"}}
_VARIABLES: Json = {"type": "object", "description": "Values of a prompt template's variables, by name."}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": True}


_SCHEMAS: dict[str, Json] = {
    "Message": _MESSAGE,
    "ChatRequest": _object(
        ["model", "messages"], model=_MODEL, messages=_MESSAGES, stream=_STREAM, max_completion_tokens=_LIMIT,
        n={"type": "integer", "minimum": 1, "maximum": 128}, variables=_VARIABLES, **_SAMPLING,
    ),
    "CompletionRequest": _object(
        ["model", "prompt"], model=_MODEL, prompt=_TEXTS, stream=_STREAM, max_tokens=_LIMIT, **_SAMPLING
    ),
    "EmbeddingRequest": _object(
        ["model", "input"], model=_MODEL, input=_TEXTS, dimensions=_LIMIT,
        encoding_format={"enum": ["float", "base64"]},
    ),
    "ResponseRequest": _object(
        ["model", "input"], model=_MODEL, input=_CONTENT, instructions=_STRING, stream=_STREAM,
        max_output_tokens=_LIMIT, **_SAMPLING,
    ),
    "MessageRequest": _object(
        ["model", "messages", "max_tokens"], model=_MODEL, messages=_MESSAGES, system=_CONTENT, stream=_STREAM,
        max_tokens=_LIMIT, **_SAMPLING,
    ),
    "CountTokensRequest": _object(["model", "messages"], model=_MODEL, messages=_MESSAGES, system=_CONTENT),
    "TokenizeRequest": _object(["model"], model=_MODEL, prompt=_STRING, messages=_MESSAGES),
    "DetokenizeRequest": _object(["model", "tokens"], model=_MODEL, tokens={"type": "array", "items": _INTEGER}),
    "Completion": _object(["choices"], id=_STRING, choices={"type": "array", "items": {"type": "object"}}),
    "Embeddings": _object(["data"], data={"type": "array", "items": {"type": "object"}}),
    "Response": _object(["output"], id=_STRING, output={"type": "array", "items": {"type": "object"}}),
    "MessageAnswer": _object(["content"], id=_STRING, content={"type": "array", "items": {"type": "object"}}),
    "TokenCount": _object(["input_tokens"], input_tokens=_INTEGER),
    "Tokens": _object(["tokens"], count=_INTEGER, tokens={"type": "array", "items": _INTEGER}),
    "Text": _object(["prompt"], prompt=_STRING),
    "Model": _object(["id"], id=_STRING, object=_STRING, created=_INTEGER, owned_by=_STRING),
    "ModelList": _object(["data"], object=_STRING, data={"type": "array", "items": {"type": "object"}}),
    "Error": _object(
        ["error"],
        error=_object(
            ["message", "type", "code"], message=_STRING, type=_STRING, code=_STRING,
            param={"anyOf": [_STRING, {"type": "null"}]},
        ),
    ),
}  # fmt: skip

# path: request, answer, summary.
_OPERATIONS: dict[str, tuple[str, str, str]] = {
    "/v1/chat/completions": ("ChatRequest", "Completion", "Answer a conversation, as OpenAI's"),
    "/v1/completions": ("CompletionRequest", "Completion", "Continue a text, as OpenAI's"),
    "/v1/responses": ("ResponseRequest", "Response", "Answer, as OpenAI's responses"),
    "/v1/messages": ("MessageRequest", "MessageAnswer", "Answer a conversation, as Anthropic's"),
    "/v1/messages/count_tokens": ("CountTokensRequest", "TokenCount", "Count a conversation's tokens"),
    "/v1/embeddings": ("EmbeddingRequest", "Embeddings", "Turn texts into vectors, as OpenAI's"),
    "/tokenize": ("TokenizeRequest", "Tokens", "Turn a text or a conversation into token ids"),
    "/detokenize": ("DetokenizeRequest", "Text", "Turn token ids into text"),
}
_ERRORS = {
    "400": "A field cannot be used",
    "401": "No valid key",
    "403": "The key may not do this",
    "404": "No such model, or its engine does not have the endpoint",
    "413": "The body is too large",
    "422": "The engine refuses a value",
    "429": "A limit is reached, or a budget spent",
    "502": "The engine failed",
    "503": "No engine can answer just now",
    "504": "The engine took too long",
}
_SECURITY: list[Json] = [{"HTTPBearer": []}, {"ApiKey": []}]


def describe_hot_paths(app: FastAPI) -> None:
    """Have `app` serve one document of all endpoints, at `/openapi.json` and `/docs`."""

    def document() -> Json:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            components = made.setdefault("components", {})
            components.setdefault("schemas", {}).update(_SCHEMAS)
            components.setdefault("securitySchemes", {}).update(
                HTTPBearer={"type": "http", "scheme": "bearer"},
                ApiKey={"type": "apiKey", "in": "header", "name": "x-api-key"},
            )
            for methods in made["paths"].values():
                for operation in methods.values():
                    _as_answered(operation)
            made["paths"] = {**_hot_paths(), **made["paths"]}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _as_answered(operation: Json) -> None:
    """FastAPI describes 422 for what the gateway answers with 400, and says nothing of keys."""
    if operation["responses"].pop("422", None) is not None:
        operation["responses"] |= _errors("400")
    if "security" in operation:
        operation["security"] = _SECURITY
        operation["responses"] |= _errors("401", "403")


def _hot_paths() -> Json:
    paths: Json = {path: {"post": _post(path, *about)} for path, about in _OPERATIONS.items()}
    listed = {"description": "The models", "content": _json("ModelList")}
    paths["/v1/models"] = {
        "get": {
            "tags": ["inference"],
            "operationId": "list_models",
            "summary": "List models and prompt templates",
            "security": _SECURITY,
            "responses": {"200": listed, **_errors("401", "403")},
        }
    }
    paths["/v1/models/{model}"] = {
        "get": {
            "tags": ["inference"],
            "operationId": "retrieve_model",
            "summary": "Show a model or prompt template, as OpenAI's",
            "security": _SECURITY,
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": _MODEL}],
            "responses": {
                "200": {"description": "The model", "content": _json("Model")},
                **_errors("400", "401", "403", "404"),
            },
        }
    }
    for path, summary, failure in (
        ("/healthz", "The process is up", None),
        ("/readyz", "This process takes requests", "503"),
        ("/readyz/engines", "An engine can answer", "503"),
        ("/metrics", "Metrics for Prometheus", None),
    ):
        answers: Json = {"200": {"description": summary, "content": {"text/plain": {"schema": _STRING}}}}
        if failure:
            answers[failure] = {"description": "Not yet, or no more"}
        get = {"tags": ["operation"], "operationId": path.strip("/"), "summary": summary, "responses": answers}
        paths[path] = {"get": get}
    return paths


def _post(path: str, request: str, answer: str, summary: str) -> Json:
    endpoint = ENDPOINTS[path]
    content: Json = _json(answer)
    if endpoint.streams:
        content["text/event-stream"] = {"schema": _STRING}
    mark = {"name": "X-Signet-Mark", "in": "header", "schema": {"enum": ["on", "off", *SCHEMES]}}
    return {
        "tags": ["inference"],
        "operationId": path.removeprefix("/v1").strip("/").replace("/", "_"),
        "summary": summary,
        "security": _SECURITY,
        "parameters": [mark] if endpoint.generates else [],
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {"200": {"description": "The answer", "content": content}, **_errors(*_ERRORS)},
    }


def _errors(*statuses: str) -> Json:
    return {status: {"description": _ERRORS[status], "content": _json("Error")} for status in statuses}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
