"""Paths of requests: each has one spelling, so that a proxy that filters paths filters what is served.

RFC 3986 lets a path be written in many ways that mean the same (sections 2.3, 5.2.4, 6.2.2). Programs differ in which
of them they undo, so those that need not be are refused rather than read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import httptools

# What may stand in a segment as it is: RFC 3986's pchar, without ';', behind which some programs cut parameters off.
_SEGMENT = rb"[A-Za-z0-9._~!$&'()*+,=:@-]"
_PLAIN = re.compile(rb"(?:(?:/" + _SEGMENT + rb"+)+/?|/)(?=\?|\Z)")
_WRONG = re.compile(rb"(?!" + _SEGMENT + rb"|[%/]).", re.DOTALL)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = re.compile(rb"[A-Za-z0-9._~-]")


def fault_of(target: bytes, names_below: Iterable[bytes] = ()) -> str | None:
    """What is wrong with the path of a target, as the end of a sentence; None: nothing.

    Args:
        target: path and query, as they came.
        names_below: prefixes such as `/v1/models/`; what follows is a name that may hold slashes, encoded or not.
    """
    if _PLAIN.match(target) is not None and b"/." not in target:
        return None
    path = target.partition(b"?")[0]
    if path == b"*":
        return None
    prefix = next((name for name in names_below if path.startswith(name) and path != name), None)
    if _WRONG.search(path) is not None:
        return "it holds a character that must be percent-encoded"
    for escape in _ESCAPE.finditer(path):
        if escape[1] is None:
            return "a '%' is not followed by two hexadecimal digits"
        encoded = bytes.fromhex(escape[1].decode())
        if _UNRESERVED.match(encoded):
            return f"'{encoded.decode()}' is percent-encoded without need"
        if encoded in b"%\\" or encoded < b" " or encoded == b"\x7f" or (encoded == b"/" and prefix is None):
            return "a slash, a backslash, a percent sign or a control character is percent-encoded"
    try:
        segments = unquote_to_bytes(path).decode().split("/")[1:]
    except UnicodeDecodeError:
        return "it is not UTF-8"
    if "." in segments or ".." in segments:
        return "a segment is '.' or '..'"
    if prefix is not None:
        del segments[: prefix.count(b"/") - 1]
        segments = segments[1:] if segments[0] == "" else segments  # the name of a model may be a folder's path
    if "" in segments[:-1]:
        return "a segment is empty ('//')"
    return None


def path_of(url: bytes) -> bytes:
    """Path and query of a target in absolute form; b"" when it has none."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return b""
    if not parsed.schema or b"#" in url:
        return b""
    path: bytes = parsed.path or b"/"
    return path + b"?" + parsed.query if parsed.query else path
