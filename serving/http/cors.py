"""Cross-origin requests: which origins' pages may ask, by the Fetch standard (https://fetch.spec.whatwg.org, 3.3).

Keys travel in a header that a page must know to send, never in cookies: no credentials are allowed, and an allowed
origin may do what its key may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from serving.http.asgi import Headers
from serving.http.errors import HttpError

ANY = "*"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


class Cors:
    """What answers say about origins.

    Args:
        origins: as browsers write them, `https://chat.example.org`; `*`: every one.
        max_age_s: seconds for which a browser need not ask again.
        requested: fields of a request that are allowed where a preflight names none; otherwise what it names is.
        exposed: fields of an answer that a page may read.
    """

    def __init__(self, origins: Iterable[str], max_age_s: int, requested: bytes, exposed: bytes) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins
        self._max_age = b"%d" % max_age_s
        self._requested = requested
        self._exposed = b"access-control-expose-headers: " + exposed + b"\r\n"

    def lines(self, headers: dict[bytes, bytes]) -> bytes:
        """Header lines of the answer to a request of these fields."""
        origin = headers.get(b"origin")
        if self._any:
            if origin is None:
                return b""
            return b"access-control-allow-origin: *\r\n" + self._exposed
        if origin not in self._origins:
            return b"vary: Origin\r\n"  # a cache must not give this answer to an origin that is allowed
        return b"vary: Origin\r\naccess-control-allow-origin: " + origin + b"\r\n" + self._exposed

    def preflight(self, method: str, headers: dict[bytes, bytes]) -> Headers | None:
        """Further header fields of the answer to a browser that asks what it may send; None: it is no such request.

        Raises:
            HttpError: the origin may send nothing.
        """
        if method != "OPTIONS" or b"origin" not in headers or b"access-control-request-method" not in headers:
            return None
        if not self._any and headers[b"origin"] not in self._origins:
            raise HttpError(
                403, "origin_not_allowed", "Pages of this origin may not ask: see the setting 'cors.origins'."
            )
        named = headers.get(b"access-control-request-headers", b"")
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", named if _NAMES.fullmatch(named) else self._requested),
            (b"access-control-max-age", self._max_age),
            (b"vary", b"Access-Control-Request-Headers"),
        ]
