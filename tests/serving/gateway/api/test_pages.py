"""The pages for people: whole in themselves, without scripts, and complete."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
from html import escape
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from serving.gateway.api.pages import docs_page
from serving.gateway.api.rest import build_rest
from tests.support.gateways import RunningGateway

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tags that were opened and not closed, and where links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "data")]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_is_whole_in_itself(gateway: RunningGateway, path: str) -> None:
    found = httpx.get(f"{gateway.url}{path}", headers=BROWSER)
    page = Page(found.text)

    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert [link for link in page.links if not link.startswith("/") or link.startswith("//")] == []
    for link in page.links:
        assert httpx.get(f"{gateway.url}{link}").status_code in (200, 503)
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    [style] = re.findall(r"<style>(.*?)</style>", found.text, re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy


def test_every_operation_is_on_the_page(gateway: RunningGateway) -> None:
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    page = httpx.get(f"{gateway.url}/docs").text

    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b><code>{escape(path)}</code>" in page


def test_a_program_gets_json_at_the_root(gateway: RunningGateway) -> None:
    found = httpx.get(f"{gateway.url}/")
    assert found.json()["name"] == "signet"
    assert "/v1" in found.json()["paths"]
    assert found.headers["vary"] == "Accept"
    assert [httpx.head(f"{gateway.url}{path}").status_code for path in ("/", "/docs")] == [200, 200]


def test_what_a_document_says_is_text() -> None:
    evil = "<script>alert(1)</script>'\""
    operation = {
        "tags": [evil],
        "summary": evil,
        "description": evil,
        "parameters": [{"name": evil, "in": evil, "schema": {"enum": [evil]}, "description": evil}],
        "responses": {evil: {"description": evil}},
    }
    page = docs_page(
        {"info": {"summary": evil}, "paths": {f"/{evil}": {"get": operation}}, "components": {"schemas": {}}}
    )
    assert "<script" not in page
    assert Page(page).open == []


async def test_documents_are_made_once_and_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    app = build_rest(lambda code: None)
    made_on: list[threading.Thread] = []
    make = app.openapi

    def noted() -> dict[str, Any]:
        made_on.append(threading.current_thread())
        return make()

    monkeypatch.setattr(app, "openapi", noted)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        paths = ("/docs", "/openapi.json", "/docs", "/openapi.json")
        pages = await asyncio.gather(*(client.get(path) for path in paths))

    assert [page.status_code for page in pages] == [200] * 4
    assert pages[1].json() == make()
    assert len(made_on) == 1
    assert made_on[0] is not threading.current_thread()
