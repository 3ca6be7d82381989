"""The first message of TLS: in any records and pieces, a second one, and those that claim what no client needs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.http.client_hello import MAX_HELLO_BYTES, REFUSAL, NotClientHello, end_of_hello
from serving.http.connection import Connection
from serving.http.server import Server
from serving.http.settings import HttpSettings, TlsSettings
from serving.http.tls import Tls
from tests.serving.http.served import MAX_BODY, Application, get, served_app

CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"


def record(payload: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + len(payload).to_bytes(2, "big") + payload


def message(body: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def claiming(size: int) -> bytes:
    return record(b"\x01" + size.to_bytes(3, "big") + bytes(200))


@given(
    size=st.integers(0, 3000),
    cuts=st.lists(st.integers(1, 700), max_size=8),
    before=st.booleans(),
    after=st.binary(max_size=20),
)
def test_a_hello_ends_where_its_last_record_does(size: int, cuts: list[int], before: bool, after: bytes) -> None:
    whole = message(bytes(size))
    records = []
    for cut in cuts:
        records.append(whole[:cut])
        whole = whole[cut:]
    sent = CHANGE_CIPHER_SPEC * before + b"".join(record(content) for content in (*records, whole) if content)

    assert end_of_hello(sent + after) == len(sent)
    assert all(end_of_hello(sent[:place]) is None for place in range(len(sent)))


@pytest.mark.parametrize(
    "sent",
    [
        claiming(MAX_HELLO_BYTES + 1),
        claiming(128 * 1024),
        record(b"\x01\x02") + record(b"\x00\x00") + record(bytes(9)),
        record(b"") + claiming(10),
        record(message(b"", kind=2)),
        record(b"\x02"),
        record(b"\x01", kind=23),
        b"".join(record(b"\x01" if not n else bytes(1)) for n in range(3)) + CHANGE_CIPHER_SPEC * 20,
        b"\x16\x03\x01\xff\xff\x01\x00\x00\x10",
    ],
)
def test_what_no_client_sends_is_none(sent: bytes) -> None:
    with pytest.raises(NotClientHello):
        end_of_hello(sent)


class Handshake:
    """A server's side of one connection, which `ssl` shakes hands with in memory."""

    def __init__(self, files: TlsSettings, curve: str | None) -> None:
        self.files = files
        self.curve = curve
        self.come, self.go = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def run(self, context: ssl.SSLContext, second: bytes | None, *, at_once: bool) -> tuple[bytes, list[int]]:
        """What the server said last, and how many bytes OpenSSL was given each time.

        `second`: sent in place of the client's second flight; `at_once`: together with the first.
        """
        server = Server(served_app(Application()), HttpSettings(), max_body_bytes=MAX_BODY)
        await server.start([])
        tls = Tls(self.files, lambda: Connection(server), lambda: b"")
        if self.curve is not None:
            tls.context.set_ecdh_curve(self.curve)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        _, transport = await loop.connect_accepted_socket(tls.accept, ours)
        client = context.wrap_bio(self.come, self.go, server_hostname="localhost")
        given: list[int] = []
        said = b""
        async with asyncio.timeout(10):
            for flight in range(4):
                try:
                    client.do_handshake()
                    client.write(get("/last", "Connection: close"))
                except ssl.SSLWantReadError:
                    pass
                sent = self.go.read()
                if flight and second is not None and not at_once:
                    sent = second
                elif not flight and second is not None and at_once:
                    sent += second
                if sent:
                    transport.data_received(sent)
                given.append(transport._bytes_in.pending)
                said = await loop.sock_recv(theirs, 65536)
                if said.endswith(REFUSAL) or (flight and b"HTTP" in said):
                    break
                self.come.write(said)
                if client.version() is not None and flight > 1:
                    break
        theirs.close()
        await server.stop()
        return said, given


@pytest.fixture(scope="module")
def files(certificates: dict[str, Path]) -> TlsSettings:
    return TlsSettings(certificate=certificates["server"], key=certificates["server_key"])


@pytest.fixture(scope="module")
def context(certificates: dict[str, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates["ca"]))


# A curve for which clients bring no key share asks for a second ClientHello (RFC 8446, section 4.1.4).
@pytest.mark.parametrize("curve", [None, "secp384r1"])
def test_a_hello_that_is_asked_for_again_is_taken(
    curve: str | None, files: TlsSettings, context: ssl.SSLContext
) -> None:
    said, _ = asyncio.run(Handshake(files, curve).run(context, None, at_once=False))
    assert said
    assert not said.endswith(REFUSAL)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("before", [b"", CHANGE_CIPHER_SPEC])
def test_a_second_hello_is_held_to_the_same_size(
    at_once: bool, before: bytes, files: TlsSettings, context: ssl.SSLContext
) -> None:
    second = before + claiming(128 * 1024)
    said, given = asyncio.run(Handshake(files, "secp384r1").run(context, second, at_once=at_once))
    assert said.endswith(REFUSAL)
    assert not any(given)
