"""E-mail addresses."""

from __future__ import annotations

import re

from serving.guard.detector import CONTEXT, Span
from serving.guard.detectors.top_levels import TOP_LEVELS

_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
_LOCAL_INNER = ".%+-'&~"
_MAX_LOCAL = 64
_MAX_DOMAIN = 255
"""Both from RFC 5321: they bound how much is held back while an address may still come."""

_SIGN = re.compile(r"@(?=[A-Za-z0-9]|\Z)")
_DOMAIN_RUN = re.compile(r"[A-Za-z0-9.-]*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.)+(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,63})")
_ESCAPE = re.compile(
    r"(?<=\\)(?:f[BIRP](?=[\w.])|[nrtbf]|u[0-9A-Fa-f]{4})"  # of JSON, and the fonts of man pages
    r"|(?<=\\f\()[A-Z]{2}"
    r"|(?:(?<=\x1b\[)|(?<=\\e\[)|(?<=\\x1b\[)|(?<=\\033\[))\d{1,3}m"  # a terminal's colours
    r"|%[0-9A-Fa-f]{2}"
)
_POD_CODE = re.compile(r"[A-Za-z][BCEFILSXZ]<")
"""A letter behind a word that opens one of Perl's formatting codes, as in `joe@example.orgE<gt>` (perlpod)."""
_GLUED = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.)+(?i:com|org|net|edu|gov|de|fr|uk|eu)(?=[0-9]|\.\.|\.[A-Z][a-z])"
)
"""A domain that a text goes on behind without a space, as in `ann@example.org.Then` and `ann@example.org1bob.doe@`."""
_NOT_A_DOMAIN = re.compile(
    r"\d+\.\d+\."  # a version, as in lodash@4.17.21-rc.x
    r"|v\d+\b"  # the same, as in tool@v2.sh
    r"|[1-9]x\.(?:png|jpe?g|gif|webp|svg|avif)\Z"  # a file, as in icon@2x.png
)
# Code goes on behind a name: a call, an index; a host before a path, as in `scp ann@host.com:notes/a.txt`.
_CALLED = re.compile(r"[(\[]")
_GOES_ON = re.compile(r":(?:[/~]|[\w.-]{1,32}/)")
_OPERATOR = re.compile(r" ?(?:[*%^]|[@+/-] ?[\w(]|[-+*/|&]?=)")
_UNDECIDED_BEHIND = re.compile(r"(?::[\w.-]{0,32}| ?[@+/|&-]? ?)\Z")
_ATTRIBUTES = frozenset((
    "id", "name", "to", "at", "is", "in", "it", "as", "do", "no", "by", "cc", "ps", "sh", "py", "rs",
    "pl", "so", "md", "im", "info", "int", "one", "mt", "st", "tt",
))  # fmt: skip
"""Top levels that are names of attributes and files as well."""
_NO_NAMES = frozenset(("com", "org", "net", "edu", "gov", "de", "fr", "uk", "eu", "example"))
"""Top levels that no attribute is called by."""
_FOLDED_TOPS = frozenset(("xx", "xxx", "rx", "orx", "xxr", "xxl", "xrx", "oxlaxx"))
"""Cyrillic ones, as they are folded."""
_CUE = re.compile(
    r"(?:mail|mailto|courriel|correo|contact|from|to|cc|reply-to|address)[\"']?[\s:=<\"'(]{1,4}\Z", re.IGNORECASE
)
_REMOTE = re.compile(r"(?:ssh|git|sftp|scp|rsync|svn)://[^\s/\"'<>]*\Z")


class EmailAddresses:
    """`local@domain`, found at its @; the domain ends in a top level that is in use, and no code goes on behind it."""

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
            if domain is not None and not _is_top(domain.group()):
                domain = _shorter(text, domain)
            if domain is None:
                start = at + 1
                continue
            if not final and _UNDECIDED_BEHIND.match(text, domain.end()) is not None:
                return spans, begin
            if not _is_address(text, begin, at, domain):
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
    # The letters of an escape are no part of the address: replacing them would break what it stands in.
    escape = _ESCAPE.match(text, begin, at)
    if escape is not None:
        begin = escape.end()
    return at - len(text[begin:at].lstrip(_LOCAL_INNER))


def _is_top(domain: str) -> bool:
    """Whether a domain's top level is in use."""
    top = domain.rpartition(".")[2].lower()
    return top in TOP_LEVELS or top.startswith("xn--") or top in _FOLDED_TOPS


def _shorter(text: str, domain: re.Match[str]) -> re.Match[str]:
    """The domain without what a text glued behind it; itself where nothing shorter is a domain."""
    start, end = domain.span()
    if _POD_CODE.match(text, end - 2):
        return _DOMAIN.match(text, start, end - 1) or domain
    return _GLUED.match(text, start, end) or domain


def _is_address(text: str, begin: int, at: int, domain: re.Match[str]) -> bool:
    local, end = text[begin:at], domain.end()
    if ".." in local or _NOT_A_DOMAIN.match(text, at + 1, end) is not None or _GOES_ON.match(text, end) is not None:
        return False
    # git@host:path is how a repository is named, not whom to write to; ssh://user@host is a login.
    if local == "git" and (text[end : end + 1] == ":" or text[begin - 1 : begin] == "/"):
        return False
    if text[begin - 1 : begin] in ("/", ":") and _REMOTE.search(text, max(0, begin - CONTEXT), begin) is not None:
        return False
    labels = domain.group().split(".")
    top = labels[-1].lower()
    if top not in _NO_NAMES and _CALLED.match(text, end) is not None:
        return False
    if not _is_top(top):
        if top == "tld" or len(top) == 2:  # nobody's: of two letters all that are in use are listed
            return False
        in_brackets = text[begin - 1 : begin] == "<" and text[end : end + 1] == ">"
        return in_brackets or _CUE.search(text, max(0, begin - 16), begin) is not None
    if top in _ATTRIBUTES and len(labels) == 2:
        is_name = labels[-1] in (top, top.upper()) and len(labels[0]) > 2
        return is_name and _OPERATOR.match(text, end) is None
    return True
