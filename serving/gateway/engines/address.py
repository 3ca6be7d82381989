"""Where an engine is: what a discovery source finds, and what the pool makes an `Engine` of."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from serving.masking import masked_url


@dataclass(frozen=True, slots=True)
class Address:
    """One engine as a source knows it.

    `name` is unique and stays the same as long as the engine does: metrics, records and the routing of every replica
    of the gateway go by it. `server_name` is the name that the engine's certificate is for, where `url` holds a bare
    address. `draining`: the engine is about to go, and takes no new requests.
    """

    url: str
    name: str
    server_name: str | None = None
    draining: bool = False

    @classmethod
    def from_url(cls, url: str) -> Address:
        """The address of an engine that is known by its URL; its name is host, port and path.

        Raises:
            ValueError: the URL is not of the form http://HOST:PORT.
        """
        # OpenAI's clients are configured with the /v1 at the end; an engine may well be given so too.
        url = url.rstrip("/").removesuffix("/v1")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # its words quote the URL
            usable = False
        if not usable:
            raise ValueError(f"engine URL {masked_url(url)!r} is not of the form http://HOST:PORT")
        return cls(url, parts.netloc.rpartition("@")[2] + parts.path)
