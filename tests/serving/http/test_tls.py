"""TLS: handshakes and records in any pieces, clients that stop half way, sizes and flow, certificates of clients."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from serving.http.connection import Connection
from serving.http.server import Server
from serving.http.settings import HttpSettings, TlsSettings
from serving.http.tls import RECORD_BYTES, Tls, context_of
from tests.serving.http.served import (
    MAX_BODY,
    POST,
    Application,
    Served,
    answer,
    get,
    post,
    read_all,
    served_app,
    serving,
)
from tests.support.running import wait_until

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def files(certificates: dict[str, Path]) -> TlsSettings:
    return TlsSettings(certificate=certificates["server"], key=certificates["server_key"])


@pytest.fixture(scope="module")
def secure(files: TlsSettings) -> Iterator[Served]:
    with serving(tls=files) as running:
        yield running


@pytest.fixture(scope="module")
def connect(certificates: dict[str, Path]) -> Callable[[Served], ssl.SSLSocket]:
    context = trusting(certificates)

    def connect(served: Served) -> ssl.SSLSocket:
        return context.wrap_socket(served.connect(), server_hostname="localhost", suppress_ragged_eofs=False)

    return connect


def trusting(certificates: dict[str, Path], version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates["ca"]))
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


async def _said(
    files: TlsSettings, context: ssl.SSLContext, sent: bytes, pieces: Callable[[bytes], list[bytes]]
) -> bytes:
    """What a server answers to a client whose bytes, handshake and all, come in `pieces` of what it has to send."""
    loop = asyncio.get_running_loop()
    server = Server(served_app(Application()), HttpSettings(), max_body_bytes=MAX_BODY)
    await server.start([])
    tls = Tls(files, lambda: Connection(server), lambda: b"")
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, transport = await loop.connect_accepted_socket(tls.accept, ours)
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(come, go, server_hostname="localhost")
    plain: list[bytes] = []
    asked = False
    async with asyncio.timeout(10):
        while True:
            try:
                if not asked:
                    client.do_handshake()
                    client.write(sent)
                    asked = True
                while data := client.read(65536):
                    plain.append(data)
                break  # its close_notify
            except ssl.SSLWantReadError:
                for piece in pieces(go.read()):
                    transport.data_received(piece)
                    await asyncio.sleep(0)
                come.write(await loop.sock_recv(theirs, 65536))
    theirs.close()
    await server.stop()
    lines = b"".join(plain).split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"date: "))


_STREAM = post(b'{"a": 1}') + get("/stream") + get("/last", "Connection: close")


def _bytes_of(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_and_requests_may_come_byte_by_byte(
    version: ssl.TLSVersion, files: TlsSettings, certificates: dict[str, Path]
) -> None:
    context = trusting(certificates, version)
    whole = asyncio.run(_said(files, context, _STREAM, lambda data: [data] if data else []))

    assert whole.count(b"HTTP/1.1 200 OK") == 3
    assert asyncio.run(_said(files, context, _STREAM, _bytes_of)) == whole


@given(sizes=st.lists(st.sampled_from([1, 4, 5, 6, 100, 1000, RECORD_BYTES - 1, RECORD_BYTES, 40_000]), min_size=1))
@hypothesis_settings(max_examples=20, deadline=None)
def test_records_may_be_cut_anywhere(sizes: list[int], files: TlsSettings, certificates: dict[str, Path]) -> None:
    body = bytes(range(256)) * 300
    sent = post(body) + get("/last", "Connection: close")

    def pieces(data: bytes) -> list[bytes]:
        cut = []
        for size in sizes:
            cut.append(data[:size])
            data = data[size:]
        return [piece for piece in (*cut, data) if piece]

    said = asyncio.run(_said(files, trusting(certificates), sent, pieces))

    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert json.dumps(body.decode("latin-1")).encode() in said


def test_the_protocol_is_agreed_on(secure: Served, connect: Callable[[Served], ssl.SSLSocket]) -> None:
    with connect(secure) as client:
        assert client.selected_alpn_protocol() == "http/1.1"
        client.sendall(get())
        assert json.loads(answer(client)[2])["scheme"] == "https"


def test_the_end_of_an_answer_is_said(secure: Served, connect: Callable[[Served], ssl.SSLSocket]) -> None:
    """Without the server's close_notify a client cannot tell the end of an answer from a connection that was cut."""
    with connect(secure) as client:
        client.sendall(get("/stream", "Connection: close"))
        assert read_all(client).endswith(b"0\r\n\r\n")


def test_large_bodies_both_ways(files: TlsSettings, connect: Callable[[Served], ssl.SSLSocket]) -> None:
    body = b"0123456789abcdef" * 131_072
    with serving(tls=files, max_body_bytes=len(body)) as served, connect(served) as client:
        for _ in range(2):
            client.sendall(post(body))
            assert json.loads(answer(client)[2])["body"].encode() == body


def test_a_body_that_waits_is_read_on_when_it_is_wanted(
    files: TlsSettings, connect: Callable[[Served], ssl.SSLSocket]
) -> None:
    body = b"0123456789abcdef" * 131_072
    with serving(tls=files, max_body_bytes=len(body)) as served, connect(served) as client:
        sending = threading.Thread(target=client.sendall, args=(post(body, "/late"),))
        sending.start()
        wait_until(lambda: bool(served.app.seen), 5, "the head has come")
        assert served.server.buffers.held < len(body) // 2
        served.app.go_on.set()
        sending.join(10)
        assert json.loads(answer(client)[2])["body"].encode() == body


def test_a_client_that_does_not_read_is_cut_off(files: TlsSettings, connect: Callable[[Served], ssl.SSLSocket]) -> None:
    with (
        serving(tls=files, slow_reader_timeout_s=0.4, write_buffer_bytes=50_000) as served,
        connect(served) as client,
    ):
        client.sendall(get("/flood"))
        assert served.app.left.wait(5)
        assert served.refused["slow_reader"] == 1
        assert served.app.num_sent < 10_000_000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["close_notify", "end of the connection", "garbage"])
def test_a_client_that_leaves_is_noticed_while_its_answer_is_made(
    how: str, version: ssl.TLSVersion, files: TlsSettings, certificates: dict[str, Path]
) -> None:
    with serving(tls=files) as served:
        plain = served.connect()
        come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting(certificates, version).wrap_bio(come, go, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(go.read())
                come.write(plain.recv(65536))
        client.write(get("/slow"))
        plain.sendall(go.read())
        wait_until(lambda: bool(served.app.seen), 5, "the request is there")
        if how == "close_notify":
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
            plain.sendall(go.read())
        elif how == "garbage":
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        else:
            plain.shutdown(socket.SHUT_WR)
        assert served.app.left.wait(5)
        wait_until(lambda: served.server.num_connections == 0, 5, "the connection is forgotten")
        while data := plain.recv(65536):
            come.write(data)
        if how == "garbage":
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                client.read(10)
        plain.close()


@given(garbage=st.binary(max_size=300), hello=st.booleans())
@hypothesis_settings(max_examples=60, deadline=None)
def test_garbage_instead_of_a_handshake_never_breaks_the_server(secure: Served, garbage: bytes, hello: bool) -> None:
    with secure.connect() as client:
        try:
            client.sendall((b"\x16\x03\x01" if hello else b"") + garbage)
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        except ConnectionError:
            pass

    assert secure.raw(get()).startswith(b"HTTP/1.1 400"), "it goes on answering"


def test_plain_http_is_told_to_speak_https(secure: Served, connect: Callable[[Served], ssl.SSLSocket]) -> None:
    received = secure.raw(get())

    assert received.startswith(b"HTTP/1.1 400")
    assert b"https://" in received
    with connect(secure) as client:
        client.sendall(get())
        assert answer(client)[0] == 200


def test_an_old_version_is_refused(secure: Served) -> None:
    """A record that says TLS 1.1, in a ClientHello that offers no newer one."""
    hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    message = b"\x01" + len(hello).to_bytes(3, "big") + hello
    received = secure.raw(b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message)
    assert received[:1] == b"\x15"  # an alert


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_that_never_ends_is_cut_off(sent: bytes, files: TlsSettings) -> None:
    with serving(tls=files, head_timeout_s=0.2) as served, served.connect() as client:
        client.sendall(sent)
        assert is_cut_off(client)


def test_of_too_many_handshakes_the_first_is_cut_off(
    files: TlsSettings, connect: Callable[[Served], ssl.SSLSocket]
) -> None:
    with serving(tls=files, max_connections=3) as served:
        silent = [served.connect() for _ in range(4)]
        assert is_cut_off(silent[0])
        with connect(served) as client:
            client.sendall(get())
            assert answer(client)[0] == 200
        for quiet in silent:
            quiet.close()


def test_a_refused_upload_reads_why_even_when_it_goes_on_sending(
    secure: Served, connect: Callable[[Served], ssl.SSLSocket]
) -> None:
    with connect(secure) as client:
        client.sendall(POST + b"Content-Length: 5000000\r\n\r\n")
        for _ in range(20):
            client.sendall(bytes(50_000))
        assert read_all(client).startswith(b"HTTP/1.1 413")


def test_a_client_cannot_have_another_handshake(files: TlsSettings) -> None:
    """Renegotiation of TLS 1.2 costs the server more than the client. Python's `ssl` cannot ask for it."""
    assert context_of(files).options & ssl.OP_NO_RENEGOTIATION


def test_a_drain_ends_handshakes_and_idle_connections(
    files: TlsSettings, connect: Callable[[Served], ssl.SSLSocket]
) -> None:
    with serving(tls=files) as served:
        silent, idle, busy = served.connect(), connect(served), connect(served)
        idle.sendall(get())
        assert answer(idle)[0] == 200
        busy.sendall(get("/slow"))
        wait_until(lambda: len(served.app.seen) == 2, 5, "both have come")
        draining = asyncio.run_coroutine_threadsafe(served.server.drain(5), served.loop)
        assert is_cut_off(silent)
        assert read_all(idle) == b""
        served.app.go_on.set()
        assert answer(busy)[2] == b"done"
        assert draining.result(5)
        for client in (silent, idle, busy):
            client.close()


def test_a_connection_holds_little_memory_whatever_it_has_sent(
    files: TlsSettings, connect: Callable[[Served], ssl.SSLSocket]
) -> None:
    """A buffer of each connection's own that grows with what comes at once costs three times this much."""
    upload = POST + b"Content-Length: 5000000\r\n\r\n" + bytes(600_000)
    with serving(tls=files) as served:
        clients = [connect(served) for _ in range(30)]
        clients[0].sendall(upload)
        before = _resident_bytes()
        for client in clients[1:]:
            client.sendall(upload)
        assert (_resident_bytes() - before) / len(clients) < 100_000
        for client in clients:
            client.close()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def is_cut_off(client: socket.socket) -> bool:
    try:
        return not client.recv(1)
    except ConnectionResetError:
        return True


def gets_anything(client: ssl.SSLSocket) -> bool:
    try:
        return bool(client.recv(10))
    except (ssl.SSLError, ConnectionError):
        return False


def test_tls_with_client_certificates(certificates: dict[str, Path]) -> None:
    tls = TlsSettings(certificate=certificates["server"], key=certificates["server_key"], client_ca=certificates["ca"])
    context = ssl.create_default_context(cafile=str(certificates["ca"]))
    with serving(tls=tls) as served:
        with served.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(get())
            assert not gets_anything(client)
        context.load_cert_chain(certificates["client"], certificates["client_key"])
        with served.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(get())
            assert json.loads(answer(client)[2])["scheme"] == "https"
            client.sendall(get("/stream"))
            assert answer(client)[2].endswith(b"piece 4\n")


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"cert\.pem"):
        Server(
            served_app(Application()),
            HttpSettings(),
            max_body_bytes=1,
            tls=TlsSettings(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"),
        )
