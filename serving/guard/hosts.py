"""Where an address in an answer leads: to this site, to a host that is allowed, elsewhere, or to a script.

Read as a browser reads it, and strictly: what is not plainly harmless (entities, escapes, control characters before the
host is known) counts as leading elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

MAX_HEAD = 300
"""Characters of an address after which it leads elsewhere if nothing has said so before: a host has at most 253."""

_RELATIVE = re.compile(r"[#?]|\.{0,2}/(?=[\w.~%?#-])|\.{0,2}/?\Z|[\w.~%-]++(?:[/?#]|\Z)")
_ABSOLUTE = re.compile(r"https?://([A-Za-z0-9.-]+)(?::[0-9]{0,5})?(?=[/?#]|\Z)", re.ASCII | re.IGNORECASE)
_PERSON = re.compile(r"(?:mailto|tel|sms):", re.IGNORECASE)
_WEB = re.compile(r"https?:|//", re.IGNORECASE)
_HIDING = re.compile(r"[:&\\\x00-\x20]")
"""What a scheme or a host can be made of that is not plain to see."""


class Leads(Enum):
    """Where an address leads."""

    HERE = "here"
    ALLOWED = "allowed"
    ELSEWHERE = "elsewhere"
    SCRIPT = "script"
    """To nothing on the web: `javascript:`, `data:`, whatever else has a scheme of its own or may hide one."""


class Hosts:
    """The hosts that answers may lead to."""

    def __init__(self, allowed: Iterable[str]) -> None:
        names = [name.lower().rstrip(".") for name in allowed]
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))

    def leads(self, address: str) -> Leads:
        """Where a whole address leads, or the first `MAX_HEAD` characters of one."""
        if _RELATIVE.match(address):
            return Leads.HERE
        absolute = _ABSOLUTE.match(address)
        if absolute is not None:
            host = absolute[1].lower().rstrip(".")
            if host in self._names or (self._suffixes and host.endswith(self._suffixes)):
                return Leads.ALLOWED
            return Leads.ELSEWHERE
        if _PERSON.match(address):
            return Leads.HERE
        if _WEB.match(address):
            return Leads.ELSEWHERE
        return Leads.SCRIPT if _HIDING.search(address) else Leads.HERE
