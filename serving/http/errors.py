"""Why the server refuses a request before its application sees it."""

from __future__ import annotations

from collections.abc import Iterable

from serving.http.settings import HttpSettings
from serving.http.target import fault_of

# Fields that a request has once. Of two, programs take the first, the last, or both (RFC 9110, section 5.3).
SINGLETONS = frozenset(
    b"authorization content-length content-type expect host idempotency-key origin transfer-encoding "
    b"access-control-request-method".split()
)

_TRY_AGAIN = ((b"retry-after", b"2"),)


class HttpError(Exception):
    """A request that the server answers itself, and then closes the connection.

    Attributes:
        status: of the answer.
        code: stable, for programs: `malformed_http`, `url_too_long` …
        message: one line for a person.
        headers: further fields of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


class ClientGone(Exception):
    """The client closed its connection: nobody is left to answer."""


def head_fault(
    url: bytes,
    headers: list[tuple[bytes, bytes]],
    fields: dict[bytes, bytes],
    version: str,
    size: int,
    settings: HttpSettings,
    max_body_bytes: int,
    singletons: frozenset[bytes],
) -> HttpError | None:
    """Why a head of `size` bytes is refused; None: it is not.

    What is malformed in itself (both lengths, folded lines) the parser refuses. The error is returned, not raised: one
    that is kept would keep the frames that it was raised through.

    Args:
        headers: all fields, with lower-case names.
        fields: the same by name.
        singletons: fields that a request may have once.
    """
    if size > settings.max_header_bytes or len(headers) > settings.max_headers:
        return headers_too_large(settings)
    if len(url) > settings.max_url_bytes:
        return HttpError(414, "url_too_long", "The path is too long.")
    twice = len(fields) != len(headers)
    if twice and (repeated := _repeated(headers, singletons)):
        return malformed(f"'{repeated}' is sent twice")
    if version == "1.1":
        if b"host" not in fields:
            return malformed("a Host field is needed")
    elif version != "1.0":
        return HttpError(505, "malformed_http", "Only HTTP/1.1 is spoken here.")
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (coding.strip().lower() != b"chunked" or version == "1.0"):
        return malformed("the transfer coding is not 'chunked'")
    length = fields.get(b"content-length")
    if length is not None and int(length) > max_body_bytes:
        return body_too_large(max_body_bytes)
    return None


def path_fault(url: bytes, names_below: Iterable[bytes]) -> HttpError | None:
    """Why a path is refused (`target.fault_of`); None: it is not."""
    fault = fault_of(url, names_below)
    if fault is None:
        return None
    return HttpError(400, "malformed_path", f"The path can be read in several ways: {fault}.")


def malformed(what: str) -> HttpError:
    return HttpError(400, "malformed_http", f"The request is no valid HTTP/1.1: {what.lower()}.")


def headers_too_large(settings: HttpSettings) -> HttpError:
    allowed = f"{settings.max_headers} header fields and {settings.max_header_bytes} bytes"
    return HttpError(431, "headers_too_large", f"The head of a request may have {allowed}.")


def body_too_large(max_body_bytes: int) -> HttpError:
    return HttpError(413, "request_too_large", f"The request body is larger than {max_body_bytes} bytes.")


def connections_full() -> HttpError:
    message = "The server has as many connections as it may have. Try again shortly."
    return HttpError(503, "too_many_connections", message, _TRY_AGAIN)


def buffers_full() -> HttpError:
    message = "The server holds as many bytes of requests as it may, of this client or of all. Try again shortly."
    return HttpError(503, "buffers_full", message, _TRY_AGAIN)


def _repeated(headers: Iterable[tuple[bytes, bytes]], singletons: frozenset[bytes]) -> str:
    """The name of a field of `singletons` that is there twice; "" when there is none."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in singletons:
            if name in seen:
                return name.decode()
            seen.add(name)
    return ""
