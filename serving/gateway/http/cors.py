"""Cross-origin requests: which origins' pages may ask, by the Fetch standard (https://fetch.spec.whatwg.org, 3.3).

Keys travel in a header that a page must know to send, never in cookies: no credentials are allowed, and an allowed
origin may do what its key may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from serving.gateway.asgi import Headers
from serving.gateway.errors import Forbidden

ANY = "*"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
# Asked for when a preflight names none; otherwise what it names is allowed.
HEADERS = b"authorization, content-type, x-api-key, x-signet-mark"
EXPOSED = (
    b"X-Request-Id, X-Signet-Mark, X-Signet-Receipt, X-Signet-Policy, X-Signet-Ignored-Fields, X-Signet-Degraded, "
    b"Retry-After, X-Should-Retry, ETag, X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, "
    b"X-RateLimit-Reset-Requests, X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens"
)
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


class Cors:
    """What answers say about origins.

    Args:
        origins: as browsers write them, `https://chat.example.org`; `*`: every one.
        max_age_s: seconds for which a browser need not ask again.
    """

    def __init__(self, origins: Iterable[str], max_age_s: int) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins
        self._max_age = b"%d" % max_age_s

    def lines(self, headers: dict[bytes, bytes]) -> bytes:
        """Header lines of the answer to a request of these fields."""
        origin = headers.get(b"origin")
        if self._any:
            if origin is None:
                return b""
            return b"access-control-allow-origin: *\r\naccess-control-expose-headers: " + EXPOSED + b"\r\n"
        if origin not in self._origins:
            return b"vary: Origin\r\n"  # a cache must not give this answer to an origin that is allowed
        return (
            b"vary: Origin\r\naccess-control-allow-origin: " + origin + b"\r\n"
            b"access-control-expose-headers: " + EXPOSED + b"\r\n"
        )  # fmt: skip

    def preflight(self, method: str, headers: dict[bytes, bytes]) -> Headers | None:
        """Further header fields of the answer to a browser that asks what it may send; None: it is no such request.

        Raises:
            Forbidden: the origin may send nothing.
        """
        if method != "OPTIONS" or b"origin" not in headers or b"access-control-request-method" not in headers:
            return None
        if not self._any and headers[b"origin"] not in self._origins:
            raise Forbidden("Pages of this origin may not ask: see 'gateway.cors.origins'.", code="origin_not_allowed")
        named = headers.get(b"access-control-request-headers", b"")
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", named if _NAMES.fullmatch(named) else HEADERS),
            (b"access-control-max-age", self._max_age),
            (b"vary", b"Access-Control-Request-Headers"),
        ]
