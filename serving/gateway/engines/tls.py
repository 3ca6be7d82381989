"""TLS towards the engines, with a certificate of our own where they ask for one (mTLS)."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from serving.gateway.engines.settings import EngineTlsSettings


def client_context(settings: EngineTlsSettings) -> tuple[ssl.SSLContext, str]:
    """The context for all engines, and a digest of the files it was made from: a changed one means a new context.

    Raises:
        ValueError: a file cannot be read or is not what it should be; with one line for the user.
    """
    files = [path for path in (settings.ca, settings.certificate, settings.key) if path is not None]
    digest = hashlib.sha256(b"".join(_read(path) for path in files)).hexdigest() if files else ""
    try:
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
    except ssl.SSLError:
        raise ValueError(f"gateway.engine_tls.ca: {settings.ca} holds no certificates in PEM format.") from None
    if settings.certificate is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key)
        except ssl.SSLError:
            raise ValueError(
                f"gateway.engine_tls: {settings.certificate} and {settings.key or 'itself'} are not a certificate "
                "and its key in PEM format, without a passphrase."
            ) from None
    return context, digest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"gateway.engine_tls: cannot read {path}: {error.strerror}.") from None
