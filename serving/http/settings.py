"""Settings of the HTTP server: what one client may take of it, and TLS."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class TlsSettings(BaseModel):
    """TLS towards clients."""

    model_config = ConfigDict(extra="forbid")

    certificate: Path = Field(description="PEM file with the certificate and its chain.")
    key: Path = Field(description="PEM file with the private key.")
    client_ca: Path | None = Field(
        default=None,
        description="PEM file with the authorities of clients' certificates; given, each client needs one.",
    )


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


class CorsSettings(BaseModel):
    """Pages of which other origins may ask from a browser (CORS)."""

    model_config = ConfigDict(extra="forbid")

    origins: list[str] = Field(
        default_factory=list,
        description="Origins whose pages may ask, as browsers write them: `https://chat.example.org`, "
        "`http://localhost:5173`. `*`: every page that has a key, wherever it is from; empty: none.",
    )
    max_age_s: int = Field(default=600, ge=0, description="Seconds for which a browser need not ask again.")

    @field_validator("origins")
    @classmethod
    def _as_browsers_write_them(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin[:100]!r} is no origin: write scheme, host in lower case and port, without a path "
                    "or a slash at the end, as https://chat.example.org; or '*'"
                )
            if re.fullmatch(r"https:.*:443|http:.*:80", origin):
                raise ValueError(f"{origin!r}: browsers leave a scheme's own port out, and so must this")
        return origins


class HttpSettings(BaseModel):
    """Bounds of connections and requests, so that no client can hold what others need."""

    model_config = ConfigDict(extra="forbid")

    max_connections: int = Field(
        default=16384,
        ge=1,
        description="Open connections at the most; one more is answered 503 and closed. "
        "Health checks and metrics have 64 more.",
    )
    max_header_bytes: int = Field(
        default=32 * 1024, ge=1024, le=256 * 1024, description="Longest head of a request; longer: 431."
    )
    max_headers: int = Field(default=100, ge=10, description="Most header fields of a request; more: 431.")
    max_url_bytes: int = Field(default=8 * 1024, ge=256, description="Longest path with its query; longer: 414.")
    max_buffered_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Bytes that a process holds at the most: of requests, from their first byte to the end of their "
        "answers, and of answers that it has to have whole. Above: 503; answers wait half a minute for room first. "
        "A tenant may have half of them, all whose key is not known yet a sixteenth; requests below 16 KB and answers "
        "below 64 KB are not counted.",
    )
    head_timeout_s: float = Field(
        default=15.0, gt=0, description="Seconds in which a request's head must have come; later: 408."
    )
    body_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds in which a request's body must have come; later: 408."
    )
    keep_alive_s: float = Field(
        default=75.0, gt=0, description="Seconds that a connection may stay open between two requests."
    )
    write_buffer_bytes: int = Field(
        default=64 * 1024,
        ge=1024,
        description="Unsent bytes of a connection above which its engine is no longer read until the client reads.",
    )
    slow_reader_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that a client may leave a full write buffer untouched; then it is cut off and "
        "counted as `slow_reader`, and its engine's request ends.",
    )
