"""Pages for people: what this is and where to go (`/`), and every endpoint (`/docs`), made from the OpenAPI document.

They are whole in themselves: no script at all, nothing from elsewhere, and a content security policy that allows none.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --soft: #8881; --quiet: #777; --mark: #0a6c74; }
@media (prefers-color-scheme: dark) { :root { --quiet: #999; --mark: #58c4cd; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 54rem; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
h2::first-letter { text-transform: uppercase; }
p { margin: .5rem 0 1rem; } a { color: var(--mark); } .quiet { color: var(--quiet); }
pre, code { font: .875rem/1.5 ui-monospace, monospace; } pre { background: var(--soft); border-radius: 6px;
  margin: .75rem 0; overflow-wrap: anywhere; padding: .75rem 1rem; white-space: pre-wrap; }
dl { display: grid; gap: .35rem 1.25rem; grid-template-columns: max-content 1fr; margin: 1rem 0; }
dt, dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
details { border-top: 1px solid var(--edge); } details:last-of-type { border-bottom: 1px solid var(--edge); }
summary { align-items: baseline; cursor: pointer; display: flex; flex-wrap: wrap; gap: .1rem .75rem;
  padding: .55rem .25rem; } summary:hover { background: var(--soft); }
summary b { color: var(--mark); flex: 0 0 4.2rem; font-size: .8rem; }
summary span { flex: 1 1 14rem; text-align: right; }
.inside { padding: 0 .25rem 1rem; } h3 { font-size: .9rem; margin: 1rem 0 .25rem; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; }
  summary span { flex-basis: 100%; text-align: left; } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "vary": "Accept",
}
_PATHS = {
    "/v1": ("base URL for OpenAI's clients; Anthropic's take the address without it", ""),
    "/v1/models": ("models that a key may use", "needs a key"),
    "/docs": ("every endpoint", "public"),
    "/openapi.json": ("the same for programs, OpenAPI 3.1", "public"),
    "/healthz": ("the process is up", "public"),
    "/readyz": ("this process takes requests", "public"),
    "/readyz/engines": ("an engine can answer", "public"),
    "/metrics": ("for Prometheus", "public"),
    "/v1/provenance/keys": ("public keys of the receipts that answers carry", "public"),
}


def add_pages(app: FastAPI) -> None:
    """Serve both pages of `app`, and its document. `/` answers a program, which does not ask for HTML, in JSON."""
    documents = _Documents(app)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def front(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(front_page(), headers=HEADERS)
        paths = {path: about for path, (about, _) in _PATHS.items()}
        return JSONResponse({"name": "signet", "about": app.summary, "paths": paths}, headers={"vary": "Accept"})

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> Response:
        page, _ = await documents.made()
        return HTMLResponse(page, headers=HEADERS)

    @app.api_route("/openapi.json", methods=["GET", "HEAD"], include_in_schema=False)
    async def openapi() -> Response:
        _, document = await documents.made()
        return Response(document, media_type="application/json")


class _Documents:
    """The page of all endpoints and the OpenAPI document, made when first asked for.

    On a thread, as it takes a second, in which others are to be answered; and on one only, however many ask.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._one = asyncio.Lock()
        self._made: tuple[str, bytes] | None = None

    async def made(self) -> tuple[str, bytes]:
        async with self._one:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
            return self._made

    def _make(self) -> tuple[str, bytes]:
        document = self._app.openapi()
        return docs_page(document), json.dumps(document, ensure_ascii=False).encode()


def front_page() -> str:
    """What this is, in one screen."""
    rows = []
    for path, (about, access) in _PATHS.items():
        # A browser sends no key: a link to what needs one would lead to an error.
        shown = f"<a href='{path}'><code>{path}</code></a>" if access == "public" else f"<code>{path}</code>"
        note = f" <span class='quiet'>· {access}</span>" if access == "needs a key" else ""
        rows.append(f"<dt>{shown}</dt><dd>{escape(about)}{note}</dd>")
    example = _curl(
        "post", "/v1/chat/completions", {"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}
    )
    return _page(
        "Signet",
        "<h1>Signet</h1><p>A gateway to language models: it speaks OpenAI's and Anthropic's APIs, cleans what goes in "
        "and out, marks what is generated, and keeps a receipt of every answer.</p>"
        f"<dl>{''.join(rows)}</dl><h2>Ask something</h2>"
        "<p>A key comes from whoever runs this, who makes one with <code>signet keys create --tenant NAME</code>.</p>"
        f"<pre>{escape(example)}</pre>",
    )


def docs_page(document: Json) -> str:
    """Every operation of an OpenAPI document, by tag, with what it takes and an example to paste."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(document, method, path, operation))
    groups = "".join(f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in by_tag.items())
    return _page(
        "API of Signet",
        f"<h1>API of Signet</h1><p>{escape(document['info'].get('summary', ''))} "
        "<span class='quiet'>For programs: <a href='/openapi.json'>/openapi.json</a>.</span></p>" + groups,
    )


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    schema = _resolved(document, _json_schema(operation.get("requestBody", {})))
    parts = [f"<p>{escape(operation['description'])}</p>"] if operation.get("description") else []
    body = _example(document, schema) if schema else None
    parts.append(f"<pre>{escape(_curl(method, path, body, with_key='security' in operation))}</pre>")
    if parameters := operation.get("parameters"):
        rows = (
            (parameter["name"], parameter["in"], parameter, parameter.get("required", False))
            for parameter in parameters
        )
        parts.append("<h3>Parameters</h3>" + _fields(document, rows))
    if fields := schema.get("properties"):
        required = schema.get("required", ())
        rows = ((name, "", field, name in required) for name, field in fields.items())
        parts.append("<h3>Body</h3>" + _fields(document, rows))
    answers = "".join(
        f"<dt><code>{escape(status)}</code></dt><dd>{escape(answer.get('description', ''))}</dd>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code>"
        f"<span class='quiet'>{escape(_headline(operation))}</span></summary>"
        f"<div class='inside'>{''.join(parts)}<h3>Answers</h3><dl>{answers}</dl></div></details>"
    )


def _headline(operation: Json) -> str:
    """What a person wrote: FastAPI makes a summary out of the function's name."""
    first: str = operation.get("description", "").partition("\n\n")[0]
    return first.partition(". ")[0].removesuffix(".") or str(operation.get("summary", ""))


def _fields(document: Json, rows: Iterator[tuple[str, str, Json, bool]]) -> str:
    lines = []
    for name, location, field, required in rows:
        notes = [location, _kind(document, field.get("schema", field)), "required" if required else ""]
        about = field.get("description", "")
        details = ", ".join(note for note in notes if note)
        lines.append(
            f"<dt><code>{escape(name)}</code></dt><dd><span class='quiet'>{escape(details)}</span> {escape(about)}</dd>"
        )
    return f"<dl>{''.join(lines)}</dl>"


def _kind(document: Json, schema: Json) -> str:
    schema = _resolved(document, schema)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(document, choice) for choice in choices))
    kind = str(schema.get("type", "any"))
    return f"list of {_kind(document, schema['items'])}" if kind == "array" and "items" in schema else kind


def _example(document: Json, schema: Json) -> Json:
    """The fields that must be there, with something in their place."""
    return {name: _sample(document, schema["properties"][name]) for name in schema.get("required", ())}


def _sample(document: Json, schema: Json) -> Any:
    schema = _resolved(document, schema)
    if examples := schema.get("examples"):
        return examples[0]
    if choices := schema.get("anyOf"):
        return _sample(document, choices[0])
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return _example(document, schema)
        case "array":
            return [_sample(document, schema["items"])]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return "…"


def _curl(method: str, path: str, body: Json | None, *, with_key: bool = True) -> str:
    lines = [f"curl http://HOST:PORT{path}" + (" -H 'Authorization: Bearer KEY'" if with_key else "")]
    if method not in ("get", "post") or (method == "post" and body is None):
        lines[0] = lines[0].replace("curl", f"curl -X {method.upper()}", 1)
    if body is not None:
        lines.append(f"  -H 'Content-Type: application/json' -d '{json.dumps(body, ensure_ascii=False)}'")
    return " \\\n".join(lines)


def _json_schema(holder: Json) -> Json:
    schema: Json = holder.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _resolved(document: Json, schema: Json) -> Json:
    name = schema.get("$ref", "").rpartition("/")[2]
    resolved: Json = document["components"]["schemas"][name] if name else schema
    return resolved


def _page(title: str, body: str) -> str:
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>"
    )
