"""The errors that refuse a malformed request before the application sees it."""

from __future__ import annotations

from collections.abc import Iterable

from serving.gateway.errors import BadRequest, GatewayError, TooLarge
from serving.gateway.http.heads import repeated_singleton
from serving.gateway.http.settings import HttpSettings
from serving.gateway.http.target import fault_of


def head_fault(
    url: bytes,
    headers: list[tuple[bytes, bytes]],
    fields: dict[bytes, bytes],
    version: str,
    size: int,
    settings: HttpSettings,
    max_body_bytes: int,
) -> GatewayError | None:
    """Why a head of `size` bytes is refused; None: it is not.

    What is malformed in itself (both lengths, folded lines) the parser refuses. The error is returned, not raised: one
    that is kept would keep the frames that it was raised through.

    Args:
        headers: all fields, with lower-case names.
        fields: the same by name.
    """
    if size > settings.max_header_bytes or len(headers) > settings.max_headers:
        return headers_too_large(settings)
    if len(url) > settings.max_url_bytes:
        return BadRequest("The path is too long.", code="url_too_long", status=414)
    twice = len(fields) != len(headers)
    if twice and (repeated := repeated_singleton(headers)):
        return malformed(f"'{repeated}' is sent twice")
    if version == "1.1":
        if b"host" not in fields:
            return malformed("a Host field is needed")
    elif version != "1.0":
        return BadRequest("Only HTTP/1.1 is spoken here.", code="malformed_http", status=505)
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (coding.strip().lower() != b"chunked" or version == "1.0"):
        return malformed("the transfer coding is not 'chunked'")
    length = fields.get(b"content-length")
    if length is not None and int(length) > max_body_bytes:
        return body_too_large(max_body_bytes)
    return None


def path_fault(url: bytes, names_below: Iterable[bytes]) -> GatewayError | None:
    """Why a path is refused (`target.fault_of`); None: it is not."""
    fault = fault_of(url, names_below)
    if fault is None:
        return None
    return BadRequest(f"The path can be read in several ways: {fault}.", code="malformed_path")


def malformed(what: str) -> GatewayError:
    return BadRequest(f"The request is no valid HTTP/1.1: {what.lower()}.", code="malformed_http")


def headers_too_large(settings: HttpSettings) -> GatewayError:
    allowed = f"{settings.max_headers} header fields and {settings.max_header_bytes} bytes"
    return BadRequest(f"The head of a request may have {allowed}.", code="headers_too_large", status=431)


def body_too_large(max_body_bytes: int) -> GatewayError:
    return TooLarge(f"The request body is larger than {max_body_bytes} bytes.")
