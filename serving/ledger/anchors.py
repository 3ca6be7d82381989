"""Anchors that the gateway writes and sends out by itself, so that nobody has to remember to.

Each is a record of its own chain with the heads of the chains that grew; what goes out is that record's hash, signed
with the receipt key: a line of a file, or the body of a POST. Whoever receives it and cannot be written to by the
database's owner can prove everything up to that moment (`signet audit verify --anchors`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serving.ledger.anchor import Head
from serving.ledger.settings import AnchorSettings
from serving.ledger.writer import LedgerUnavailable
from serving.provenance.receipts import NotSigned, ReceiptIssuer, verify_signature

if TYPE_CHECKING:
    from serving.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

ANCHOR_TYPE = "signet-anchor+jwt"
POST_TIMEOUT_S = 10.0
TARGETS = ("ledger", "file", "url")
"""Where an anchor can fail to get: it is a record of the ledger, then a line of a file, then a POST."""


Heads = Mapping[tuple[str, int], bytes]
"""Hashes of records by chain and number."""


class AnchorError(ValueError):
    """What is given as an anchor is none, or belongs to another ledger; `str()` is the one line for the user."""


class _Statement(msgspec.Struct, frozen=True):
    """The claims of a signed anchor; `iss` and `iat` are RFC 7519's, `anchor` is `CHAIN:NUMBER:HASH`."""

    iss: str
    iat: int
    anchor: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Statement).decode


class AnchorPublisher:
    """Writes an anchor now and then, and sends it out. Belongs to one event loop, between `start` and `stop`."""

    def __init__(self, ledger: Ledger, issuer: Callable[[], ReceiptIssuer | None]) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._task: asyncio.Task[None] | None = None
        self._made_at = time.time()
        self.published_at = 0.0
        """Unix time of the last anchor that was written and sent everywhere; 0: none yet."""
        self.failures = dict.fromkeys(TARGETS, 0)
        """Anchors that were not written (`ledger`), or that a place did not take."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def publish(self) -> bool:
        """Write an anchor and send it; False where it did not get everywhere, which is logged."""
        settings = self._ledger.settings.anchors
        try:
            head = await self._ledger.anchor()
        except LedgerUnavailable as error:
            logger.warning("no anchor was written: %s", error)
            head = None
        if head is None:  # or it lies in the journal: the database is away
            self.failures["ledger"] += 1
            return False
        line, everywhere = self._signed(head), True
        for name, send in _targets(settings):
            if not await asyncio.to_thread(send, line):
                self.failures[name] += 1
                everywhere = False
        if everywhere:
            self.published_at = time.time()
        return everywhere

    @property
    def age_s(self) -> float:
        """Seconds since an anchor was sent everywhere, or since the start; NaN: none are wanted."""
        if not self._ledger.settings.anchors.is_wanted:
            return math.nan
        return time.time() - (self.published_at or self._made_at)

    async def _run(self) -> None:
        while True:
            settings = self._ledger.settings.anchors
            # Not all replicas at once, and no long wait for settings that were reloaded meanwhile.
            await asyncio.sleep(min(settings.interval_s, 60.0) * random.uniform(0.9, 1.1))  # noqa: S311
            is_due = time.time() - self.published_at >= settings.interval_s * 0.9
            if settings.is_wanted and is_due:
                try:
                    await self.publish()
                except Exception:  # were this task to end, nobody would notice for months
                    self.failures["ledger"] += 1
                    logger.exception("an anchor could not be published")

    def _signed(self, head: Head) -> str:
        issuer = self._issuer()
        if issuer is None:  # receipts are switched off: the hash alone proves as much to whoever kept it
            return str(head)
        signer = issuer.keys.current().signer
        return signer.of_type(ANCHOR_TYPE).sign(_encode(_Statement(issuer.issuer, int(time.time()), str(head))))


def read_anchors(lines: Iterable[str], keys: Mapping[str, Ed25519PublicKey]) -> Iterator[Head]:
    """The anchors in a file: signed ones, and what `signet audit anchor` printed. Blank lines are skipped.

    Raises:
        AnchorError: a line is no anchor, or is not signed by one of `keys`; names its number.
    """
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            if "." in text:
                payload, _ = verify_signature(text, keys, ANCHOR_TYPE)
                text = _decode(payload).anchor
            yield Head.parse(text)
        except NotSigned as error:
            raise AnchorError(f"line {number} {error}") from None
        except (ValueError, msgspec.DecodeError):
            raise AnchorError(f"line {number} is no anchor") from None


def expected_heads(
    lines: Iterable[str], keys: Mapping[str, Ed25519PublicKey], known: Heads
) -> dict[tuple[str, int], bytes]:
    """What `verify` is to expect, by `read_anchors` and beside what is `known`: (chain's name, number) to hash.

    Raises:
        AnchorError: as `read_anchors`, or two anchors of one record differ.
    """
    expected = dict(known)
    for head in read_anchors(lines, keys):
        if expected.setdefault((head.chain, head.seq), head.hash) != head.hash:
            raise AnchorError(
                f"two anchors of record {head.seq} of {head.chain} differ: the ledger was rewritten between them, or "
                "one is of another ledger"
            )
    return expected


def _targets(settings: AnchorSettings) -> Iterator[tuple[str, Callable[[str], bool]]]:
    file, url = settings.file, settings.url
    if file is not None:
        yield "file", lambda line: _append(file, line)
    if url is not None:
        yield "url", lambda line: _post(url.get_secret_value(), line)


def _append(file: Path, line: str) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.error("an anchor cannot be written to %s: %s", file, error.strerror)
        return False
    return True


def _post(url: str, line: str) -> bool:
    request = urllib.request.Request(url, line.encode(), {"content-type": "application/jose"}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=POST_TIMEOUT_S) as answer:  # noqa: S310  # http(s), by the settings
            answer.read(1024)
    except (OSError, ValueError) as error:
        # Without the URL, which may hold a token.
        logger.error("an anchor cannot be sent to ledger.anchors.url: %s", getattr(error, "reason", error))
        return False
    return True
