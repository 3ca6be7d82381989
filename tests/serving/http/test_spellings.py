"""Raw requests that two programs could read in two ways: refused on every path, and nothing behind them is read."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from serving.gateway.app import SINGLE_FIELDS
from serving.http.errors import SINGLETONS
from serving.http.target import fault_of
from tests.serving.http.served import Served, answer, get, post, serving

MODELS = b"/v1/models/"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
BODY = b"Content-Length: 2\r\n\r\n{}"

SPELLINGS = [
    *("/%61dmin/keys", "/admin%2fkeys", "/admin%2Fkeys", "/m%65trics", "/%6Detrics", "/v1/%7E", "/a%2Db", "/a%2Eb"),
    *("//admin/keys", "/admin//keys", "///", "//", "/admin/keys//", "//example.org/admin"),
    *("/./admin", "/admin/.", "/admin/..", "/../admin", "/v1/../admin/keys", "/..", "/.", "/v1/./models"),
    *("/%2e%2e/admin", "/.%2e/admin", "/%2E/admin", "/v1/%2e%2e%2fadmin", "/..%2fadmin", "/%2e%2e%5cadmin"),
    *("/admin\\keys", "\\admin", "/..\\admin", "/admin%5ckeys", "/admin%5Ckeys"),
    *("/admin;/keys", "/admin;x=1/keys", "/admin/keys;", "/;/admin/keys", "/metrics;a"),
    *("/admin%00", "/admin%00/keys", "/admin%0akeys", "/admin%0d%0aX: y", "/admin%09", "/admin%1f", "/admin%7f"),
    *("/admin%", "/admin%2", "/admin%zz/keys", "/%u0061dmin", "/%%61dmin", "/admin%25", "/%2561dmin"),
    *("/admin%252fkeys", "/%252e%252e/admin"),
    *("/adm\xefn", "/\xff", "/admin/k\xc3\xa9ys", "/admin%ff", "/admin%c0%afkeys", "/admin%c3", "/%ed%a0%80"),
    *('/admin"', "/admin<", "/admin>", "/admin^", "/admin`", "/admin|", "/admin{}", "/admin[0]", "/admin#"),
    *("/admin/#/keys", "/#", "/admin/keys#a"),
    *("/v1/models/a%2f..%2f..%2fadmin", "/v1/models/../../admin", "/v1/models/a//b", "/v1/models/a%2f%2fb"),
    *("/v1/models/%61", "/v1/models/a%5cb", "/v1/models/a%00", "/v1/models/a%25", "/v1/models///a"),
    *("/v1/models/..%2fa", "/v1/models/%2e"),
    *("/v1/models/%2f%2fa", "/v1/models%2fa", "/V1%2Fmodels/a", "/v1/models;/a", "/v1/models/."),
]  # fmt: skip
PLAIN = [
    *("/", "/healthz", "/v1/chat/completions", "/admin/keys", "/admin/keys/", "/.well-known/jwks.json", "/a.b/c..d"),
    *("/admin/keys?after=a%2Fb%61&x=//..", "/?/../", "/a%20b", "/a%3Fb", "/caf%C3%A9", "/a:b@c"),
    *("/a,b(c)!*'", "/..."),
    *("/v1/models/gpt", "/v1/models/org/name", "/v1/models/org%2Fname", "/v1/models/org%2fname?x", "/v1/models/"),
    *("/v1/models//models/llama", "/v1/models/%2Fmodels%2Fllama", "/v1/models/prompt%3Aanswer%402"),
    *("/v1/models/a.b-c_d~e", "/v1/models/a$b&c=d+e"),
    *("/v1/models/%E6%A8%A1%E5%9E%8B", "/v1/models/a%20b", "/v1/models/a%2B1"),
]  # fmt: skip

HEADS = {
    "two keys": CHAT + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n" + BODY,
    "the same key twice": CHAT + b"Authorization: Bearer a\r\nauthorization: Bearer a\r\n" + BODY,
    "two x-api-key": CHAT + b"X-Api-Key: a\r\nX-API-KEY: b\r\n" + BODY,
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two hosts in 1.0": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "two types": CHAT + b"Content-Type: application/json\r\nContent-Type: text/plain\r\n" + BODY,
    "two lengths": CHAT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "the same length twice": CHAT + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": CHAT + b"Content-Length: 2, 2\r\n\r\n{}",
    "an empty length": CHAT + b"Content-Length:\r\n\r\n{}",
    "a negative length": CHAT + b"Content-Length: -2\r\n\r\n{}",
    "a length with an underscore": CHAT + b"Content-Length: 1_0\r\n\r\n{}",
    "a length and chunks": CHAT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity, then chunked": CHAT + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": CHAT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": CHAT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice in one field": CHAT + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a coding in quotes": CHAT + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a parameter of the coding": CHAT + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "a folded field": CHAT + b"X: a\r\n b\r\n" + BODY,
    "a folded coding": CHAT + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a first line that is folded": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a space before the colon": CHAT + b"Authorization : Bearer a\r\n" + BODY,
    "a tab before the colon": CHAT + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "no colon": CHAT + b"Authorization Bearer a\r\n" + BODY,
    "an empty name": CHAT + b": a\r\n" + BODY,
    "a bare line feed": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare line feed between fields": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a bare carriage return": b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "a carriage return in a value": CHAT + b"X: a\rb\r\n" + BODY,
    "NUL in a value": CHAT + b"X: a\x00b\r\n" + BODY,
    "NUL in a name": CHAT + b"X\x00: a\r\n" + BODY,
    "a name that is no ASCII": CHAT + b"X\xff: a\r\n" + BODY,
    "a chunk's size in bare line feeds": CHAT + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "a chunk's size with a space": CHAT + b"Transfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n",
    "a chunk's size in 0x": CHAT + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk's size with an underscore": CHAT + b"Transfer-Encoding: chunked\r\n\r\n0_2\r\n{}\r\n0\r\n\r\n",
    "a chunk that goes on": CHAT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n",
    "a tab in the first line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case HTTP": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(names_below=["/v1/models/"]) as running:
        yield running


def refused_with(served: Served, sent: bytes) -> str:
    """The code of the one answer, of 400, to what is sent and to the request behind it."""
    served.app.seen.clear()
    received = served.raw(sent + get("/smuggled"))
    assert received.count(b"HTTP/1.1 ") == 1, received
    assert received.startswith(b"HTTP/1.1 400 "), received
    assert served.app.seen == []
    code: str = json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"]
    return code


@pytest.mark.parametrize("path", SPELLINGS)
def test_a_path_has_one_spelling(served: Served, path: str) -> None:
    target = path.encode("latin-1")
    sent = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    # A space or a line break in it, or what is no path at all, the parser refuses.
    assert refused_with(served, sent) in ("malformed_path", "malformed_http")
    if target.startswith(b"/"):
        assert fault_of(target, [MODELS]) is not None
        assert refused_with(served, sent.replace(b" /", b" http://a/", 1)) in ("malformed_path", "malformed_http")


@pytest.mark.parametrize("path", PLAIN)
def test_a_path_that_is_written_as_it_must_be_is_served(served: Served, path: str) -> None:
    with served.connect() as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answer(client)[0] == 200


def test_no_way_to_write_a_path_leads_to_another(served: Served) -> None:
    """Each byte of a path that we serve, encoded: only one spelling arrives."""
    path = b"/admin/keys"
    for place in range(1, len(path)):
        for encoded in (b"%%%02x" % path[place], b"%%%02X" % path[place]):
            assert fault_of(path[:place] + encoded + path[place + 1 :], [MODELS]) is not None


@pytest.mark.parametrize("name", HEADS)
def test_a_head_has_one_reading(served: Served, name: str) -> None:
    assert refused_with(served, HEADS[name]) == "malformed_http"


@pytest.mark.parametrize("name", sorted(SINGLETONS.union(SINGLE_FIELDS)))
def test_what_decides_is_sent_once(served: Served, name: bytes) -> None:
    value = {b"content-length": b"2", b"transfer-encoding": b"chunked"}.get(name, b"a")
    field = name.title() + b": " + value + b"\r\n"
    host = b"" if name == b"host" else b"Host: a\r\n"
    assert refused_with(served, b"POST / HTTP/1.1\r\n" + host + field + field + b"\r\n{}") == "malformed_http"


def test_other_fields_may_be_repeated(served: Served) -> None:
    with served.connect() as client:
        client.sendall(post(b"{}", "/", "Accept: a", "Accept: b", "X-Forwarded-For: c", "X-Forwarded-For: d"))
        assert answer(client)[0] == 200
