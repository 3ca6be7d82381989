"""Heads of answers as bytes, and the answers that the server gives without asking the application."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from serving.http.errors import HttpError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE = b"connection: close\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"

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


def http_date(value: str) -> float | None:
    """Unix seconds of a date in a header (RFC 9110, section 5.6.7); None where it is none."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def refusal(error: HttpError, body: bytes, date_line: bytes, lines: bytes = b"") -> bytes:
    """A whole answer, after which the connection is closed; `body` is JSON, `lines` are further header lines."""
    length = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    return b"".join(
        (status_line(error.status), date_line, length, CLOSE, lines, head_lines(error.headers), b"\r\n", body)
    )
