"""TLS over plain transports: what one connection holds is OpenSSL's state, and nothing of it before its first byte.

The event loop's own TLS has a buffer of 256 KiB for each connection to receive into. Here all bytes go through OpenSSL
in pieces of a record's size, so that no buffer of a connection grows beyond that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from serving.http.client_hello import REFUSAL, NotClientHello, asks_for_another, end_of_hello
from serving.http.settings import TlsSettings

# The most that one record holds (RFC 8446, section 5.1).
RECORD_BYTES = 16 * 1024
# First byte of every handshake (RFC 8446, section 5.1).
_HANDSHAKE = 22


class Tls:
    """The certificates of one server, and the handshakes that are under way.

    Args:
        files: certificate, key, and authorities of clients.
        serve: makes the protocol that a connection is handed to when its handshake is done.
        refuse: what a client is told that does not speak TLS, as plain HTTP.

    Raises:
        ValueError: a file cannot be used; one line says which.
    """

    def __init__(self, files: TlsSettings, serve: Callable[[], asyncio.Protocol], refuse: Callable[[], bytes]) -> None:
        self._files = files
        self.context = context_of(files)
        self.serve, self.refuse = serve, refuse
        self.max_handshakes = 1
        """With more at once the one that began first is cut off."""
        self._begun: dict[TlsTransport, float] = {}
        """Loop time at which each began; the first is first."""

    def accept(self) -> TlsTransport:
        """For a connection that has come."""
        return TlsTransport(self)

    def renew(self) -> None:
        """Read the certificate files again, for connections to come.

        Raises:
            ValueError: they cannot be used; those in use stay.
        """
        context_of(self._files)  # a look first: a context that failed half way is of no use
        self.context.load_cert_chain(self._files.certificate, self._files.key)

    def begin(self, transport: TlsTransport, now: float) -> None:
        """Count a handshake."""
        self._begun[transport] = now
        if len(self._begun) > self.max_handshakes:
            self._cut_off(next(iter(self._begun)))

    def end(self, transport: TlsTransport) -> None:
        """It is done, or its client has gone."""
        self._begun.pop(transport, None)

    def cut_off_before(self, begun: float) -> None:
        """Cut off the handshakes that began until then."""
        while self._begun:
            oldest, began = next(iter(self._begun.items()))
            if began > begun:
                break
            self._cut_off(oldest)

    def _cut_off(self, transport: TlsTransport) -> None:
        del self._begun[transport]
        transport.abort()


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One connection: a protocol to the plain transport below, a transport to the HTTP protocol above."""

    __slots__ = ("_above", "_below", "_bytes_in", "_bytes_out", "_ended", "_hello", "_object", "_paused", "_tls")

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._below: asyncio.Transport
        self._above: asyncio.Protocol | None = None  # None: the handshake is not done
        self._object: ssl.SSLObject | None = None
        self._bytes_in: ssl.MemoryBIO
        self._bytes_out: ssl.MemoryBIO
        self._hello: bytearray | None = bytearray()  # of a ClientHello that has not come to its end
        self._ended = False  # nothing more is sent, and what still comes is thrown away
        self._paused = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._below = cast(asyncio.Transport, transport)
        self._tls.begin(self, asyncio.get_running_loop().time())

    def data_received(self, data: bytes) -> None:
        if self._object is None:
            self._begin(data)
        while self._hello is not None and data and not self._ended:
            data = self._read_hello(self._hello, data)
        parts = data if len(data) <= RECORD_BYTES else memoryview(data)
        for start in range(0, len(data), RECORD_BYTES):
            if self._ended:
                return
            self._bytes_in.write(parts[start : start + RECORD_BYTES])
            self._read()

    def eof_received(self) -> None:
        """A client that has said its last word is taken to be gone: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self._above is None:
            self._tls.end(self)
        else:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        self._paused = True
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        if self._above is not None:
            self._above.resume_writing()

    # asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._object if name == "ssl_object" else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._ended

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended or not data:
            return
        assert self._object is not None
        try:
            sent = self._object.write(data)  # one record at the most
            self._below.write(self._bytes_out.read())
            while sent < len(data):
                sent += self._object.write(memoryview(data)[sent : sent + RECORD_BYTES])
                self._below.write(self._bytes_out.read())
        except ssl.SSLError:
            self.abort()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes. What the client still sends is thrown away as it is."""
        self._say_goodbye()
        self._below.write_eof()

    def close(self) -> None:
        """Close when all is sent. The client's own last word is not waited for (RFC 8446, section 6.1)."""
        self._say_goodbye()
        self._below.close()

    def abort(self) -> None:
        self._ended = True
        self._below.abort()

    def _begin(self, data: bytes) -> None:
        """OpenSSL's state, once there is something for it to read."""
        if data[0] == _HANDSHAKE:
            self._bytes_in, self._bytes_out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._object = self._tls.context.wrap_bio(self._bytes_in, self._bytes_out, server_side=True)
        elif not self._ended:
            self._fail(self._tls.refuse())

    def _read_hello(self, hello: bytearray, data: bytes) -> bytes:
        """Take a ClientHello as it comes, which OpenSSL gets as a whole; returns what follows it."""
        hello += data
        try:
            end = end_of_hello(hello)
        except NotClientHello:
            self._fail(REFUSAL)
            return b""
        if end is None:
            return b""
        self._hello = None
        self._bytes_in.write(hello[:end])
        self._read()
        return bytes(hello[end:])

    def _read(self) -> None:
        """Hand on what the bytes that have come make whole."""
        tls = self._object
        assert tls is not None
        try:
            if self._above is None:
                self._shake_hands(tls)
            # A read takes all there is of one record: with none left there is nothing to read. Asking is much cheaper
            # than having OpenSSL say that it wants more.
            while self._bytes_in.pending and not self._ended:
                data = tls.read(RECORD_BYTES)
                if not data:
                    self.close()  # the client's close_notify
                    return
                assert self._above is not None
                self._above.data_received(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._fail(self._bytes_out.read())  # says what was wrong
            return
        if self._bytes_out.pending and not self._ended:
            # Answers to a handshake or a change of keys. A client that asks for ever more and reads none goes.
            if self._paused:
                self.abort()
            else:
                answer = self._bytes_out.read()
                if self._above is None and asks_for_another(answer):
                    self._hello = bytearray()
                self._below.write(answer)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        tls.do_handshake()
        self._tls.end(self)
        if self._bytes_out.pending:
            self._below.write(self._bytes_out.read())
        self._above = self._tls.serve()
        self._above.connection_made(self)

    def _fail(self, last_words: bytes) -> None:
        self._ended = True
        if self._paused:
            self._below.abort()
        else:
            self._below.write(last_words)
            self._below.close()

    def _say_goodbye(self) -> None:
        if not self._ended:
            self._ended = True
            if self._object is not None:
                with suppress(ssl.SSLError):  # it wants the client's last word
                    self._object.unwrap()
                self._below.write(self._bytes_out.read())


def context_of(files: TlsSettings) -> ssl.SSLContext:
    """The server's side of TLS 1.2 and later; with `client_ca`, each client has to show a certificate.

    Raises:
        ValueError: a file cannot be used; one line says which.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"cannot use certificate {files.certificate} with key {files.key}: {error}") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"cannot use the client authorities in {files.client_ca}: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context
