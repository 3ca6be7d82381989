"""E-mail addresses."""

from __future__ import annotations

import re

from serving.guard.detector import Span

_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
_LOCAL_INNER = ".%+-'&~"
_MAX_LOCAL = 64
_MAX_DOMAIN = 255
"""Both from RFC 5321: they bound how much is held back while an address may still come."""

_SIGN = re.compile(r"@(?=[A-Za-z0-9]|\Z)")
_DOMAIN_RUN = re.compile(r"[A-Za-z0-9.-]*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.)+(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,63})")
_ESCAPE = re.compile(r"(?<=\\)(?:[nrtbf]|u[0-9A-Fa-f]{4})")
_NOT_A_DOMAIN = re.compile(
    r"\d+\.\d+\."  # a version, as in lodash@4.17.21-rc.x
    r"|[1-9]x\.(?:png|jpe?g|gif|webp|svg|avif)\Z"  # a file, as in icon@2x.png
)


class EmailAddresses:
    """`local@domain`, found at its @; the domain needs a dot and a top level of letters."""

    entity = "EMAIL_ADDRESS"
    skips_plain_words = True

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Span], int]:
        spans: list[Span] = []
        size = len(text)
        while (sign := _SIGN.search(text, start)) is not None:
            at = sign.start()
            begin = _local_start(text, start, at)
            if begin == at:
                start = at + 1
                continue
            run = _DOMAIN_RUN.match(text, at + 1, at + 1 + _MAX_DOMAIN)
            assert run is not None
            if run.end() == size and not final and size - at - 1 <= _MAX_DOMAIN:
                return spans, begin
            domain = _DOMAIN.match(text, at + 1, run.end())
            if domain is None or not _is_address(text, begin, at, domain):
                start = at + 1
                continue
            start = domain.end()
            spans.append(Span(begin, start))
        return spans, size if final else _local_run(text, start, size)


def _local_run(text: str, start: int, at: int) -> int:
    """Where the characters before `at` begin that could be a local part."""
    start = max(start, at - _MAX_LOCAL)
    return start + len(text[start:at].rstrip(_LOCAL + _LOCAL_INNER))


def _local_start(text: str, start: int, at: int) -> int:
    """Where the local part before `at` begins; `at` when there is none."""
    begin = _local_run(text, start, at)
    # In JSON text the letters of an escape are no part of the address: replacing them would break the string.
    escape = _ESCAPE.match(text, begin, at)
    if escape is not None:
        begin = escape.end()
    return at - len(text[begin:at].lstrip(_LOCAL_INNER))


def _is_address(text: str, begin: int, at: int, domain: re.Match[str]) -> bool:
    if _NOT_A_DOMAIN.match(text, at + 1, domain.end()) is not None:
        return False
    # git@host:path is how a repository is named, not whom to write to.
    return not (text[begin:at] == "git" and text[domain.end() : domain.end() + 1] == ":")
