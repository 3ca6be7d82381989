"""Heads of answers as bytes, and the answers that the server gives without asking the application."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from serving.gateway.errors import GatewayError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE = b"connection: close\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"

# Fields that a request has once. Of two, programs take the first, the last, or both (RFC 9110, section 5.3).
SINGLETONS = frozenset(
    b"authorization content-length content-type expect host idempotency-key origin transfer-encoding x-api-key "
    b"x-session-id x-signet-deadline-ms x-signet-mark x-signet-priority access-control-request-method".split()
)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()


def head_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header fields as they go over the wire.

    Raises:
        ValueError: a field holds a line break, which would let its value forge others.
    """
    lines: list[bytes] = []
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    joined = b"".join(lines)
    if joined.count(b"\n") != len(lines) // 4 or joined.count(b"\r") != len(lines) // 4:
        raise ValueError("a header field of the answer holds a line break")
    return joined


def repeated_singleton(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The name of a field that is there twice and may be there once; "" when there is none."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in SINGLETONS:
            if name in seen:
                return name.decode()
            seen.add(name)
    return ""


def refusal(error: GatewayError, date_line: bytes, lines: bytes = b"") -> bytes:
    """A whole answer, after which the connection is closed; `lines` are further header lines."""
    body = error.body()
    length = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    return b"".join(
        (status_line(error.http_status), date_line, length, CLOSE, lines, head_lines(error.headers), b"\r\n", body)
    )
