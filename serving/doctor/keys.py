"""The files of secrets that sign and mark: readable, sound, and closed to others."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from serving.doctor.clock import TOLERATED_S
from serving.doctor.finding import Finding, error, warning
from serving.provenance import Keyring, KeyringError
from serving.provenance.receipts import ReceiptKeys, ReceiptKeysError
from serving.settings import Settings


def check_keys(settings: Settings) -> Iterator[Finding]:
    """The keyring of the watermark and the keys of receipts; those that are not there yet are made at the start."""
    keyring = settings.keyring_file
    if not _is_missing(keyring):
        try:
            made_at = list(Keyring.open(keyring).epochs.values())
        except KeyringError as reason:
            yield error(str(reason), "no answer can be marked, and the gateway does not start", _fix(keyring))
        else:
            yield from _sound(keyring, made_at)
    receipts = settings.receipt_keys_file
    if settings.receipts.enabled and not _is_missing(receipts):
        try:
            signed_since = [key.created_at for key in ReceiptKeys.open(receipts).all()]
        except ReceiptKeysError as reason:
            runs = settings.receipts.when_unusable == "run"
            why = "answers get no receipts" if runs else "the gateway does not start"
            yield error(str(reason), why, _fix(receipts))
        else:
            yield from _sound(receipts, signed_since)


def _sound(file: Path, made_at: Iterable[int]) -> Iterator[Finding]:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & stat.S_IWGRP:
        yield warning(
            f"{file} may be changed by its group (mode {mode:04o})",
            "whoever is in the group can mark and sign as this installation",
            f"run chmod g-w {file}",
        )
    ahead_s = max(made_at, default=0) - time.time()
    if ahead_s > TOLERATED_S:
        yield warning(
            f"{file} holds a key that was made {ahead_s:.0f} s from now",
            "this machine's clock is behind, or was ahead when the key was made: what it signs is dated wrongly",
            "synchronize the clock with NTP",
        )


def _is_missing(file: Path) -> bool:
    """Whether it is to be made; one that may not be looked at is there, as far as is known."""
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _fix(file: Path) -> str:
    return f"restore {file.name} from a backup, or correct its owner and mode (0600)"
