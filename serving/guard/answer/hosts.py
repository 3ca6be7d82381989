"""Where an address in an answer leads: to this site, to a host that is allowed, elsewhere, or to a script.

Read as a browser reads it (https://url.spec.whatwg.org/#url-parsing), after what Markdown and HTML make of entities and
backslashes. What hides its host behind such things leads elsewhere, whichever host it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from html import unescape

MAX_HEAD = 300
"""Characters of an address after which it leads elsewhere if nothing has said so before: a host has at most 253."""

_RELATIVE = re.compile(r"[#?]|\.{0,2}/(?=[\w.~%?#-])|\.{0,2}/?\Z|[\w.~%-]++(?:[/?#]|\Z)")
_ABSOLUTE = re.compile(r"https?://([A-Za-z0-9.-]+)(?::[0-9]{0,5})?(?=[/?#]|\Z)", re.ASCII | re.IGNORECASE)
_PERSON = re.compile(r"(?:mailto|tel|sms):", re.IGNORECASE)
_IGNORED = re.compile(r"^[\x00-\x20]+|[\t\n\r]")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WEB = frozenset({"http", "https", "ftp", "ws", "wss"})
_SCRIPTS = frozenset(
    {
        *("javascript", "vbscript", "livescript", "data", "blob", "file", "filesystem", "jar", "mhtml", "view-source"),
        *("chrome", "hcp", "intent", "its", "mk", "search", "search-ms", "shell"),
    }
)
_HANDLERS = "ms-"
"""Schemes of Windows' programs begin with it; several of these have run what an address told them."""
_PICTURE = re.compile(r"data:image/(?:avif|bmp|gif|jpe?g|png|webp|x-icon)[;,]", re.IGNORECASE)
_SLASHES = re.compile(r"[/\\]{2}")


class Destination(Enum):
    """Where an address leads."""

    HERE = "here"
    """To this site, or to another program (`mailto:`, `vscode:`), which nothing opens unasked."""
    ALLOWED = "allowed"
    ELSEWHERE = "elsewhere"
    SCRIPT = "script"
    """To what a browser runs or shows as a page of its own: `javascript:`, `data:`, `file:` and the like."""


class Hosts:
    """The hosts that answers may lead to."""

    def __init__(self, allowed: Iterable[str]) -> None:
        names = [name.lower().rstrip(".") for name in allowed]
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))

    def leads(self, address: str) -> Destination:
        """Where a whole address leads, or the first `MAX_HEAD` characters of one."""
        if _RELATIVE.match(address):
            return Destination.HERE
        absolute = _ABSOLUTE.match(address)
        if absolute is not None:
            host = absolute[1].lower().rstrip(".")
            if host in self._names or (self._suffixes and host.endswith(self._suffixes)):
                return Destination.ALLOWED
            return Destination.ELSEWHERE
        if _PERSON.match(address) or _PICTURE.match(address):
            return Destination.HERE
        if "&" in address and len(address) >= MAX_HEAD:
            return Destination.SCRIPT  # an entity may go on
        plain = unescape(address)
        return max(self._plain_leads(plain), self._plain_leads(_ESCAPED.sub(r"\1", plain)), key=_WORST.index)

    def _plain_leads(self, address: str) -> Destination:
        """Where an address leads whose entities are read, as far as that can be told from how it begins."""
        address = _IGNORED.sub("", address)
        if _SLASHES.match(address):
            return Destination.ELSEWHERE
        scheme = _SCHEME.match(address)
        if scheme is None or address.startswith(":", scheme.end()):
            return Destination.HERE  # a relative one, or a name of C++
        name = scheme[1].lower()
        return (
            Destination.ELSEWHERE
            if name in _WEB
            else Destination.SCRIPT
            if name in _SCRIPTS or name.startswith(_HANDLERS)
            else Destination.HERE
        )


_WORST = (Destination.HERE, Destination.ELSEWHERE, Destination.SCRIPT)
