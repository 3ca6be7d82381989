"""The detectors, a file an entity. In comes folded text; out go the places of values, and how far that is settled."""

from __future__ import annotations

from functools import cache

from serving.guard.detector import Detector
from serving.guard.detectors.api_key import CuedKeys, PrefixedKeys
from serving.guard.detectors.card import CardNumbers
from serving.guard.detectors.email import EmailAddresses
from serving.guard.detectors.phone import PhoneNumbers
from serving.guard.detectors.private_key import PrivateKeys

__all__ = [
    "CardNumbers",
    "CuedKeys",
    "EmailAddresses",
    "PhoneNumbers",
    "PrefixedKeys",
    "PrivateKeys",
    "default_detectors",
]


@cache
def default_detectors() -> tuple[Detector, ...]:
    """All detectors. Where values begin at one place, the earlier detector names the mask."""
    return PrivateKeys(), PrefixedKeys(), CuedKeys(), CardNumbers(), EmailAddresses(), PhoneNumbers()
