"""Pages of other origins: what a browser is told before it sends a request, and with every answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from serving.http.settings import CorsSettings
from tests.serving.http.served import CHUNKED, Served, answer, get, post, serving

ORIGIN = "https://chat.example.org"
ALLOWED = "access-control-allow-origin"
PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-stainless-lang")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(cors=CorsSettings(origins=[ORIGIN, "http://localhost:5173"])) as running:
        yield running


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[Served]:
    with serving(cors=CorsSettings(origins=["*"])) as running:
        yield running


def options(path: str, *lines: str) -> bytes:
    return get(path, *lines).replace(b"GET", b"OPTIONS", 1)


def ask(served: Served, sent: bytes) -> tuple[int, dict[str, str]]:
    with served.connect() as client:
        client.sendall(sent)
        status, headers, _ = answer(client, sent.split(b" ")[0].decode())
    return status, headers


def test_a_preflight_is_answered_without_the_application(served: Served) -> None:
    served.app.seen.clear()
    status, headers = ask(served, options("/v1/chat/completions", f"Origin: {ORIGIN}", *PREFLIGHT))

    assert (status, headers[ALLOWED]) == (204, ORIGIN)
    assert headers["access-control-allow-headers"] == "authorization,x-stainless-lang"
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in headers
    assert "origin" in headers["vary"].lower()
    assert served.app.seen == []


def test_a_preflight_that_names_no_fields_is_told_the_usual(served: Served) -> None:
    for odd in ((), ("Access-Control-Request-Headers: a;b",), ("Access-Control-Request-Headers: ",)):
        _, headers = ask(served, options("/", f"Origin: {ORIGIN}", PREFLIGHT[0], *odd))
        assert {"authorization", "content-type"} <= set(headers["access-control-allow-headers"].split(", "))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://chat.example.org", ORIGIN + ".evil.example", ORIGIN + ":8443", "*"],
)
def test_another_origin_is_told_nothing(served: Served, origin: str) -> None:
    refused, preflight = ask(served, options("/", f"Origin: {origin}", *PREFLIGHT))
    status, headers = ask(served, get("/", f"Origin: {origin}"))

    assert refused == 403
    assert status == 200
    assert not {name for name in (*preflight, *headers) if name.startswith("access-control")}
    assert headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(get("/", f"Origin: {ORIGIN}"), 200, id="whole"),
        pytest.param(get("/stream", f"Origin: {ORIGIN}"), 200, id="stream"),
        pytest.param(get("/unread", f"Origin: {ORIGIN}"), 401, id="no key"),
        pytest.param(get("/crash", f"Origin: {ORIGIN}"), 500, id="fault"),
        pytest.param(get("//admin", f"Origin: {ORIGIN}"), 400, id="refused path"),
        pytest.param(post(b"", "/", f"Origin: {ORIGIN}").replace(b"Length: 0", b"Length: 999999"), 413, id="too large"),
        pytest.param(CHUNKED.replace(b"\r\n\r\n", f"\r\nOrigin: {ORIGIN}\r\n\r\nzz".encode()), 400, id="body"),
    ],
)
def test_every_answer_may_be_read_errors_too(served: Served, sent: bytes, status: int) -> None:
    found, headers = ask(served, sent)

    assert (found, headers[ALLOWED], headers["vary"]) == (status, ORIGIN, "Origin")
    assert {"X-Request-Id", "X-Signet-Receipt", "Retry-After"} <= set(
        headers["access-control-expose-headers"].split(", ")
    )


def test_caches_are_told_where_no_origin_was(served: Served) -> None:
    _, headers = ask(served, get())
    assert headers["vary"] == "Origin"
    assert ALLOWED not in headers


def test_every_origin_may_be_let_in(open_to_all: Served) -> None:
    for origin in (ORIGIN, "null"):
        assert ask(open_to_all, options("/", f"Origin: {origin}", *PREFLIGHT))[1][ALLOWED] == "*"
        assert ask(open_to_all, get("/", f"Origin: {origin}"))[1][ALLOWED] == "*"


def test_options_that_is_no_preflight_reaches_the_application(served: Served) -> None:
    served.app.seen.clear()
    ask(served, options("/", f"Origin: {ORIGIN}"))
    ask(served, options("/", *PREFLIGHT))
    assert served.app.seen == [("OPTIONS", "/")] * 2


def test_without_the_setting_nothing_is_said() -> None:
    with serving() as served:
        status, headers = ask(served, options("/", f"Origin: {ORIGIN}", *PREFLIGHT))
    assert status == 200
    assert not {name for name in headers if name.startswith("access-control") or name == "vary"}


@pytest.mark.parametrize(
    "origin",
    ["chat.example.org", ORIGIN + "/", ORIGIN + "/a", "https://Chat.example.org", "https://*.example.org", "null", "",
     ORIGIN + ":443", "http://a:80", "https://a b", "https://user@a", "https://a?b"],
)  # fmt: skip
def test_what_no_browser_sends_is_no_setting(origin: str) -> None:
    with pytest.raises(ValidationError):
        CorsSettings(origins=[origin])


@pytest.mark.parametrize(
    "origin", ["*", ORIGIN, "http://localhost:5173", "http://[::1]:8080", "chrome-extension://abc"]
)
def test_what_browsers_send_is(origin: str) -> None:
    assert CorsSettings(origins=[origin]).origins == [origin]
