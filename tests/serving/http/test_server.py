"""What a client on a bare socket meets: HTTP as the RFCs have it, and every limit."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from http.client import IncompleteRead

import pytest

from serving.http.request import BODY_HIGH_WATER_BYTES
from tests.serving.http.served import (
    CHUNKED,
    HOST,
    POST,
    Served,
    answer,
    get,
    post,
    read_all,
    serving,
)
from tests.support.running import wait_until

LARGE_BODY = 2 * BODY_HIGH_WATER_BYTES


def error_code(body: bytes) -> str:
    code: str = json.loads(body)["error"]["code"]
    return code


# Answers


def test_a_request_reaches_the_application_as_it_was_sent(served: Served) -> None:
    with served.connect() as client:
        client.sendall(post(b"{}", "/a%20b?c=d%20e", "X-One: 1", "x-two:\t2 ", "X-One: again"))
        status, headers, body = answer(client)

    said = json.loads(body)
    assert status == 200
    assert (said["method"], said["path"], said["query"], said["body"]) == ("POST", "/a b", "c=d%20e", "{}")
    assert [pair for pair in said["headers"] if pair[0].startswith("x-")] == [
        ["x-one", "1"],
        ["x-two", "2"],
        ["x-one", "again"],
    ]
    assert headers["x-app"] == "echo"
    assert time.strptime(headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert headers["content-length"] == str(len(body))


def test_a_connection_serves_many_requests(served: Served) -> None:
    with served.connect() as client:
        for number in range(3):
            client.sendall(post(b"%d" % number))
            assert json.loads(answer(client)[2])["body"] == str(number)


def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    with serving() as served, served.connect() as client:
        client.sendall(post(b"x", "/slow") + b"".join(get(f"/{number}") for number in range(20)))
        client.sendall(get("/last", "Connection: close"))
        wait_until(lambda: served.app.seen == [("POST", "/slow")], 5, "the first is under way")
        served.app.go_on.set()
        received = read_all(client)

    assert b"done" in received
    paths = re.findall(rb'"path": "/(\w+)"', received)
    assert paths == [*(b"%d" % number for number in range(20)), b"last"]


def test_more_pipelined_requests_than_allowed_end_the_connection_after_those_before() -> None:
    with serving() as served, served.connect() as client:
        client.sendall(post(b"x", "/slow") + get() * 70)
        wait_until(lambda: bool(served.refused), 5, "the many are refused")
        served.app.go_on.set()
        received = read_all(client)

    assert received.count(b"HTTP/1.1 200") == 64
    assert received.count(b"HTTP/1.1 400") == 1
    assert received.rfind(b"HTTP/1.1 400") > received.rfind(b"HTTP/1.1 200")


def test_the_body_of_a_pipelined_request_may_come_later(served: Served) -> None:
    with served.connect() as client:
        client.sendall(get("/first") + POST + b"Content-Length: 2\r\n\r\n")
        assert b"/first" in client.recv(10_000)
        client.sendall(b"hi")
        assert json.loads(answer(client)[2])["body"] == "hi"


def test_a_connection_goes_on_after_a_large_body() -> None:
    """Reading pauses while much of a body waits for the application, and must go on afterwards."""
    with serving(max_body_bytes=LARGE_BODY) as served, served.connect() as client:
        for _ in range(2):
            client.sendall(post(b"x" * LARGE_BODY))
            assert len(json.loads(answer(client)[2])["body"]) == LARGE_BODY
            client.sendall(post(b"small"))
            assert json.loads(answer(client)[2])["body"] == "small"


def test_a_client_that_goes_after_a_large_body_is_missed_at_once() -> None:
    with serving(max_body_bytes=LARGE_BODY) as served:
        with served.connect() as client:
            client.sendall(post(bytes(LARGE_BODY), "/slow"))
            wait_until(lambda: served.app.seen == [("POST", "/slow")], 5, "it is being answered")

        assert served.app.left.wait(5)


def test_a_chunked_body_is_put_together(served: Served) -> None:
    chunks = b"3\r\nabc\r\n10;name=value\r\n0123456789abcdef\r\n0\r\nX-Trailer: not seen\r\n\r\n"
    with served.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        said = json.loads(answer(client)[2])
        client.sendall(get("/next"))
        after = json.loads(answer(client)[2])

    assert said["body"] == "abc0123456789abcdef"
    assert after["path"] == "/next"
    assert "x-trailer" not in dict(after["headers"])


def test_a_client_that_expects_100_gets_it_only_when_its_body_is_wanted(served: Served) -> None:
    head = b" HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with served.connect() as client:
        client.sendall(b"POST /" + head)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hi")
        assert json.loads(answer(client)[2])["body"] == "hi"
    with served.connect() as client:
        client.sendall(b"POST /unread" + head)
        status, headers, _ = answer(client)
    assert (status, headers["connection"]) == (401, "close")


def test_head_has_the_headers_and_no_body(served: Served) -> None:
    with served.connect() as client:
        client.sendall(b"HEAD /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        served.app.go_on.set()
        status, headers, body = answer(client, "HEAD")
        client.sendall(get())
        assert answer(client)[0] == 200
    served.app.go_on.clear()
    assert (status, headers["content-length"], body) == (200, "4", b"")


def test_an_answer_of_unknown_length_is_chunked(served: Served) -> None:
    with served.connect() as client:
        client.sendall(get("/stream"))
        _, headers, body = answer(client)
        client.sendall(get("/empty"))
        assert answer(client)[0] == 204

    assert headers["transfer-encoding"] == "chunked"
    assert body == b"".join(b"piece %d\n" % number for number in range(5))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_pieces_may_be_written_without_waiting_once_an_answer_has_begun(served: Served, version: str) -> None:
    with served.connect() as client:
        client.sendall(f"GET /written?5x1 HTTP/{version}\r\n".encode() + HOST + b"\r\n")
        _, headers, body = answer(client)

    assert ("transfer-encoding" in headers) == (version == "1.1")
    assert body == b"".join(b"piece %d\n" % number for number in range(5))
    assert served.app.might_write == [False, True, False]


def test_a_client_that_does_not_read_has_to_be_waited_for() -> None:
    with serving(write_buffer_bytes=20_000) as served, served.connect() as client:
        client.sendall(get("/written?10000x5000"))
        wait_until(lambda: len(served.app.might_write) == 2, 10, "the buffer is full")

    assert served.app.might_write[:2] == [False, False]
    assert served.app.num_sent < 1000


def test_http_1_0_gets_no_chunks_and_ends_with_the_connection(served: Served) -> None:
    received = served.raw(b"GET /stream HTTP/1.0\r\n\r\n")

    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.startswith(b"piece 0\n")
    assert body.endswith(b"piece 4\n")


def test_connection_close_is_kept_to(served: Served) -> None:
    received = served.raw(get("/", "Connection: close") + get("/never"))

    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in received


def test_an_upgrade_is_ignored(served: Served) -> None:
    received = served.raw(get("/", "Connection: Upgrade", "Upgrade: websocket") + b"\x81\x05hello")

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in received


def test_a_target_in_absolute_form_is_read(served: Served) -> None:
    with served.connect() as client:
        client.sendall(b"GET http://elsewhere/path?x=1 HTTP/1.1\r\n" + HOST + b"\r\n")
        said = json.loads(answer(client)[2])
    assert (said["path"], said["query"]) == ("/path", "x=1")


def test_a_failing_application_is_a_500_and_a_cut_answer_is_no_whole_one(served: Served) -> None:
    received = served.raw(get("/crash"))
    assert received.startswith(b"HTTP/1.1 500")
    assert b"on purpose" not in received
    with served.connect() as client:
        client.sendall(get("/cut"))
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer(client)


def test_a_line_break_in_a_header_value_forges_nothing(served: Served) -> None:
    received = served.raw(get("/forge"))
    assert received.startswith(b"HTTP/1.1 500")
    assert b"set-cookie" not in received


def test_a_client_that_leaves_is_noticed_while_its_answer_is_made() -> None:
    with serving() as served:
        client = served.connect()
        client.sendall(get("/hang"))
        wait_until(lambda: bool(served.app.seen), 5, "the request is under way")
        client.close()
        assert served.app.left.wait(5)


# Malformed and hostile


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="cl-te"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", id="te-cl"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="two-cl"),
        pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", id="cl-list"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", id="cl-plus"),
        pytest.param(POST + b"Content-Length: 0x3\r\n\r\nabc", id="cl-hex"),
        pytest.param(POST + b"Content-Length: 99999999999999999999999\r\n\r\n", id="cl-overflow"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="te-unknown"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="te-list"),
        pytest.param(POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="te-last"),
        pytest.param(POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", id="te-vt"),
        pytest.param(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="te-1.0"),
        pytest.param(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", id="chunk-hex"),
        pytest.param(CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n", id="chunk-sign"),
        pytest.param(CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", id="chunk-space"),
        pytest.param(CHUNKED + b"3\nabc\r\n0\r\n\r\n", id="chunk-lf"),
        pytest.param(CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n", id="chunk-end"),
        pytest.param(CHUNKED + b"ffffffffffffffffff\r\n", id="chunk-overflow"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", id="folded"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", id="space-colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", id="nul"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX(y: a\r\n\r\n", id="name"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", id="lf-only"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", id="cr-only"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n", id="target"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", id="space-target"),
        pytest.param(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", id="connect"),
        pytest.param(b"NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n", id="method"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls-hello"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(request_bytes: bytes) -> None:
    with serving() as served:
        received = served.raw(request_bytes + get("/smuggled"))

    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
    assert received.count(b"HTTP/1.1 ") == 1
    assert error_code(received.partition(b"\r\n\r\n")[2]) in ("malformed_http", "request_too_large")
    assert not [path for _, path in served.app.seen if "smuggled" in path]


@pytest.mark.parametrize("version", [b"2.0", b"0.9"])
def test_another_version_is_refused(version: bytes, served: Served) -> None:
    assert served.raw(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 505")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        pytest.param(get("/", "X: " + "a" * 40_000), 431, "headers_too_large", id="long-head"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431, "headers_too_large", id="endless-head"),
        pytest.param(get("/", *(f"X-{number}: 1" for number in range(120))), 431, "headers_too_large", id="many"),
        pytest.param(get("/" + "a" * 10_000), 414, "url_too_long", id="url"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413, "request_too_large", id="length"
        ),
        pytest.param(
            CHUNKED + b"4000\r\n" * 1 + (bytes(0x4000) + b"\r\n4000\r\n") * 8, 413, "request_too_large", id="chunks"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 400_000,
            400,
            "malformed_http",
            id="chunk-extension",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 400_000,
            400,
            "malformed_http",
            id="trailer",
        ),
    ],
)
def test_sizes_are_limited(request_bytes: bytes, status: int, code: str, served: Served) -> None:
    received = served.raw(request_bytes)

    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert error_code(received.partition(b"\r\n\r\n")[2]) == code
    assert served.refused[code]


def test_a_refused_upload_reads_why_even_when_it_goes_on_sending(served: Served) -> None:
    with served.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
        for _ in range(20):
            client.sendall(bytes(50_000))
        received = read_all(client)
    assert received.startswith(b"HTTP/1.1 413")


# Time


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        pytest.param(b"GET / HT", "head", id="head"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", "body", id="body"),
    ],
)
def test_a_request_that_never_ends_is_refused(sent: bytes, words: str) -> None:
    with serving(head_timeout_s=0.2, body_timeout_s=0.2) as served:
        received = served.raw(sent)

    assert received.startswith(b"HTTP/1.1 408")
    assert words.encode() in received
    assert error_code(received.partition(b"\r\n\r\n")[2]) == "request_timeout"


def test_trickling_bytes_buys_no_time() -> None:
    with serving(head_timeout_s=0.3) as served, served.connect() as client:
        began = time.monotonic()
        try:
            while time.monotonic() - began < 5:
                client.sendall(b"G" if time.monotonic() == began else b"E")
                client.settimeout(0.02)
                try:
                    if not client.recv(1000):
                        break
                except TimeoutError:
                    continue
                break
        except ConnectionError:
            pass
        assert time.monotonic() - began < 3


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    with serving(keep_alive_s=0.2, head_timeout_s=0.2) as served:
        with served.connect() as silent:
            assert read_all(silent) == b""
        with served.connect() as client:
            client.sendall(get())
            assert answer(client)[0] == 200
            assert read_all(client) == b""
        with served.connect() as busy:
            busy.sendall(get("/slow"))
            with served.connect() as other:
                assert read_all(other) == b""  # as long as it takes to be closed for idleness
            served.app.go_on.set()
            assert answer(busy)[2] == b"done"


def test_a_client_that_does_not_read_is_cut_off_and_holds_little_memory() -> None:
    with serving(slow_reader_timeout_s=0.4, write_buffer_bytes=50_000) as served:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(get("/flood"))
        assert served.app.left.wait(5)
        [count] = [served.refused["slow_reader"]]
        # Beyond the kernel's own buffers one write past the limit is held, no more.
        num_sent = served.app.num_sent
        client.close()

    assert count == 1
    assert num_sent < 6_000_000


def test_a_slow_but_reading_client_is_not_cut_off() -> None:
    with serving(slow_reader_timeout_s=0.3, write_buffer_bytes=20_000) as served, served.connect() as client:
        client.sendall(get("/flood"))
        total, began = 0, time.monotonic()
        while time.monotonic() - began < 1.5:
            total += len(client.recv(200_000))
            time.sleep(0.02)  # the client's own pace is what is tested
        assert not served.refused
        assert total > 1_000_000


# Numbers


def test_above_the_limit_of_connections_only_probes_are_answered() -> None:
    with serving(max_connections=2) as served:
        first, second = served.connect(), served.connect()
        for client in (first, second):
            client.sendall(get())
            assert answer(client)[0] == 200

        refused = served.raw(get("/v1/models"))
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after" in refused
        assert error_code(refused.partition(b"\r\n\r\n")[2]) == "too_many_connections"
        with served.connect() as probe:
            probe.sendall(get("/healthz"))
            assert answer(probe)[0] == 200
        first.close()
        wait_until(lambda: served.server.num_connections < 2, 5, "a place is free")
        with served.connect() as client:
            client.sendall(get())
            assert answer(client)[0] == 200
        second.close()


def test_when_the_reserve_is_used_up_too_connections_are_refused_at_once() -> None:
    with serving(max_connections=1) as served:
        held = [served.connect() for _ in range(65)]
        wait_until(lambda: served.server.num_connections == 65, 5, "all are open")
        with served.connect() as client:
            assert read_all(client).startswith(b"HTTP/1.1 503")
        for stalled in held:
            stalled.close()


# Stopping


def test_a_drain_closes_the_idle_and_lets_answers_finish() -> None:
    with serving() as served:
        idle, busy = served.connect(), served.connect()
        idle.sendall(get())
        answer(idle)
        busy.sendall(get("/slow"))
        wait_until(lambda: ("GET", "/slow") in served.app.seen, 5, "the answer is under way")

        drained = asyncio.run_coroutine_threadsafe(served.server.drain(10), served.loop)
        assert read_all(idle) == b""
        with pytest.raises(OSError, match="refused"):
            served.connect()
        assert not drained.done()
        served.app.go_on.set()
        _, headers, body = answer(busy)

        assert (headers["connection"], body) == ("close", b"done")
        assert drained.result(5) is True
        idle.close()
        busy.close()


def test_a_drain_is_bounded() -> None:
    with serving() as served, served.connect() as client:
        client.sendall(get("/hang"))
        wait_until(lambda: bool(served.app.seen), 5, "the request is under way")
        assert served.call(served.server.drain(0.1)) is False
        assert read_all(client) == b""
