"""Files that the settings name, opened as the programs open them when they start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from serving.doctor.finding import Finding, error, warning
from serving.gateway.engines.build import client_context
from serving.gateway.prompts.catalogue import PromptError, read_folder
from serving.guard.classifiers import make_pool
from serving.guard.classifiers.encoder import EncoderError
from serving.guard.policy import PolicyError, read_policy, require_classifiers
from serving.http.tls import context_of
from serving.identity.jwks import KeySet, KeysUnavailable
from serving.settings import Settings

_EXPIRES_SOON = timedelta(days=14)
_STARTS_NOT = "the gateway does not start with it"


def check_files(settings: Settings) -> Iterator[Finding]:
    """Certificates, policy, classifiers, prompts, model folders, issuer keys, the file of anchors."""
    for name, unusable, open_it in (
        ("gateway.tls", ValueError, lambda: settings.gateway.tls and context_of(settings.gateway.tls)),
        ("gateway.engine_tls", ValueError, lambda: client_context(settings.gateway.engine_tls)),
        ("gateway.prompts", PromptError, lambda: read_folder(settings.gateway.prompts)),
        ("guard", (PolicyError, EncoderError), lambda: _open_guard(settings)),
        ("identity.jwt", KeysUnavailable, lambda: settings.identity.jwt.issuer and KeySet(settings.identity.jwt)),
    ):
        yield from _opened(name, unusable, open_it)
    yield from _certificates(settings)
    yield from _model_folders(settings)
    yield from _anchors(settings.ledger.anchors.file)


def _opened(
    name: str, unusable: type[Exception] | tuple[type[Exception], ...], open_it: Callable[[], object]
) -> Iterator[Finding]:
    try:
        open_it()
    except unusable as reason:
        line = str(reason).rstrip(".")
        named = line if line.startswith(name) else f"{name}: {line}"
        yield error(named, _STARTS_NOT, f"correct the file, or the settings below {name}")
    except OSError as failure:
        yield error(
            f"{name}: {failure.filename} cannot be read: {failure.strerror}",
            _STARTS_NOT,
            "correct the path, or the file's owner and mode",
        )


def _open_guard(settings: Settings) -> None:
    pool = make_pool(settings.guard.classifiers)
    try:
        if settings.guard.policy is not None:
            require_classifiers(settings.guard.policy, read_policy(settings.guard.policy), pool)
    finally:
        pool.close()


def _certificates(settings: Settings) -> Iterator[Finding]:
    tls = settings.gateway.tls
    named = {
        "gateway.tls.certificate": tls.certificate if tls else None,
        "gateway.tls.client_ca": tls.client_ca if tls else None,
        "gateway.engine_tls.certificate": settings.gateway.engine_tls.certificate,
        "gateway.engine_tls.ca": settings.gateway.engine_tls.ca,
    }
    for name, file in named.items():
        if file is not None:
            yield from _dates(name, file)


def _dates(name: str, file: Path) -> Iterator[Finding]:
    try:
        certificates = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        return  # said when it was opened
    now = datetime.now(UTC)
    ends = min(certificate.not_valid_after_utc for certificate in certificates)
    begins = max(certificate.not_valid_before_utc for certificate in certificates)
    why, fix = "every connection that it secures fails", "renew it; the gateway takes over a replaced file by itself"
    if ends < now:
        yield error(f"{name}: {file} expired on {ends:%Y-%m-%d}", why, fix)
    elif begins > now:
        yield error(f"{name}: {file} is not valid before {begins:%Y-%m-%d}", why, "correct the clock, or the file")
    elif ends < now + _EXPIRES_SOON:
        yield warning(f"{name}: {file} expires on {ends:%Y-%m-%d}", f"from then on {why}", fix)


def _model_folders(settings: Settings) -> Iterator[Finding]:
    for model, folder in settings.gateway.model_folders.items():
        if not os.path.isfile(folder / "tokenizer.json"):
            yield error(
                f"gateway.model_folders.{model}: {folder} holds no tokenizer.json",
                "the model's control tokens are not made inert, and no mark of it can be detected",
                "name the folder of the model that the engine serves",
            )


def _anchors(file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    writable = os.access(file if os.path.exists(file) else file.parent, os.W_OK, effective_ids=True)
    if not writable or os.path.isdir(file):
        yield error(
            f"ledger.anchors.file: {file} cannot be written",
            "no anchor is kept: rows at the end of the ledger can be cut off unnoticed",
            "make its folder, writable for this user",
        )
