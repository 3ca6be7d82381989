"""The public keys of a token issuer: fetched beside the requests, kept when fetching fails.

JSON Web Key Sets: RFC 7517. Discovery: OpenID Connect Discovery 1.0, section 4.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from serving.identity.settings import JwtSettings, is_trustworthy

logger = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
MAX_DOCUMENT_BYTES = 1024 * 1024
# Whoever sends tokens with invented key ids causes one look in this time, not one each.
REFETCH_COOLDOWN_S = 10.0
# By RFC 7518, section 6, and RFC 8037: which keys each algorithm takes.
_KEY_TYPES = {"RS": ("RSA", None), "PS": ("RSA", None), "Ed": ("OKP", "Ed25519")}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had; `str()` is one line for the log."""


class KeySet:
    """The keys of one issuer. `start` looks from time to time, `refetch` once; `find` never waits.

    Raises:
        KeysUnavailable: (constructor) the file with the keys, or with the certificates to trust, cannot be read.
    """

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._tls = _trusting(settings.ca_file)
        self._jwks: list[dict[str, Any]] = []
        self._ready: dict[tuple[str | None, str], PyJWK | None] = {}
        self._last_look = -REFETCH_COOLDOWN_S
        self._looking = threading.Lock()
        self._shared_look: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="signet-jwks", daemon=True)
        if settings.jwks is not None and "://" not in settings.jwks:
            self._fetch()

    @property
    def is_loaded(self) -> bool:
        """Whether any keys are known."""
        return bool(self._jwks)

    def start(self) -> None:
        """Follow the issuer from a background thread until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop following. A look in progress is not waited for."""
        self._stopping.set()

    def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """The key of this id that is made for this algorithm.

        A token without key id is accepted where the issuer has one such key only.
        """
        ready = self._ready
        wanted = (key_id, algorithm)
        if wanted not in ready:
            fitting = [jwk for jwk in self._jwks if _fits(jwk, algorithm) and key_id in (None, jwk.get("kid"))]
            key = _construct(fitting[0], algorithm) if len(fitting) == 1 else None
            if key is None:  # nothing is kept of ids that a client made up
                return None
            ready[wanted] = key
        return ready[wanted]

    async def refetch(self) -> None:
        """Look now, unless somebody just did; never fails. All who wait share one look."""
        if self._shared_look is None or self._shared_look.done():
            if self._looked_just_now and not self._looking.locked():
                return
            self._shared_look = asyncio.create_task(asyncio.to_thread(self._look, unless_recent=True))
        await asyncio.shield(self._shared_look)

    @property
    def _looked_just_now(self) -> bool:
        return time.monotonic() - self._last_look < REFETCH_COOLDOWN_S

    def _follow(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            self._look()
            wait = self._settings.refresh_interval_s if self.is_loaded else REFETCH_COOLDOWN_S

    def _look(self, unless_recent: bool = False) -> None:
        with self._looking:
            if unless_recent and self._looked_just_now:  # while this one waited
                return
            try:
                self._fetch()
            except KeysUnavailable as error:
                logger.warning("%s; the %d keys known so far stay valid", error, len(self._jwks))
            finally:
                self._last_look = time.monotonic()

    def _fetch(self) -> None:
        jwks = [jwk for jwk in _list_keys(self._load()) if _is_public_signing_key(jwk)]
        if not jwks:
            raise KeysUnavailable("the token issuer offers no public keys for signatures")
        if jwks != self._jwks:
            self._jwks = jwks
            self._ready = {}
            logger.info("the token issuer's keys: %d", len(jwks))

    def _load(self) -> Any:
        source = self._settings.jwks
        if source is None:
            source = self._discover()
        if "://" in source:
            return self._get(source)
        try:
            return _parse(Path(source).expanduser().read_bytes(), source)
        except OSError as error:
            raise KeysUnavailable(f"cannot read the token issuer's keys in {source}: {error.strerror}") from None

    def _discover(self) -> str:
        issuer = self._settings.issuer or ""
        document = self._get(issuer.rstrip("/") + DISCOVERY)
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise KeysUnavailable(f"what {issuer} tells of itself names another issuer")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not is_trustworthy(address):
            raise KeysUnavailable(f"what {issuer} tells of itself has no usable 'jwks_uri'")
        return address

    def _get(self, url: str) -> Any:
        opener = urllib.request.build_opener(_NoRedirect(), urllib.request.HTTPSHandler(context=self._tls))
        try:
            with opener.open(url, timeout=self._settings.fetch_timeout_s) as response:
                document = response.read(MAX_DOCUMENT_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise KeysUnavailable(f"cannot fetch {url}: {reason}") from None
        return _parse(document, url)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        reason = error.strerror or "it holds no certificates"
        raise KeysUnavailable(f"cannot read the certificates in {ca_file}: {reason}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, and from nowhere that a redirect says."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _parse(document: bytes, source: str) -> Any:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise KeysUnavailable(f"{source} is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        raise KeysUnavailable(f"{source} is not JSON") from None


def _list_keys(document: Any) -> list[dict[str, Any]]:
    keys = document.get("keys") if isinstance(document, dict) else None
    return [jwk for jwk in keys if isinstance(jwk, dict)] if isinstance(keys, list) else []


def _is_public_signing_key(jwk: dict[str, Any]) -> bool:
    """A symmetric key (`oct`) in a public document is no secret: nothing signed with it may be believed."""
    return jwk.get("kty") in ("RSA", "EC", "OKP") and jwk.get("use", "sig") == "sig" and "d" not in jwk


def _fits(jwk: dict[str, Any], algorithm: str) -> bool:
    if jwk.get("alg", algorithm) != algorithm:
        return False
    if algorithm in _CURVES:
        return jwk.get("kty") == "EC" and jwk.get("crv") == _CURVES[algorithm]
    key_type, curve = _KEY_TYPES[algorithm[:2]]
    return jwk.get("kty") == key_type and curve in (None, jwk.get("crv"))


def _construct(jwk: dict[str, Any], algorithm: str) -> PyJWK | None:
    try:
        return PyJWK(jwk, algorithm)
    except PyJWTError:
        logger.warning("the token issuer offers a key that cannot be used")
        return None
