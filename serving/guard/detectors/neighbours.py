"""What stands around a number: whether it is one of a row, a piece of an identifier, or named as something else.

Checksums and shapes alone say little of ordinary work: of random rows of numbers one in forty is a card. A value that
no word announces counts only where it stands by itself.
"""

from __future__ import annotations

import re

from serving.guard.detectors.boundary import LEFT, ascii_pattern

BEFORE = 64
"""Characters before a value that are looked at; less than a detector may count on seeing."""
AFTER = 24
"""Characters behind a value that must be known before it is decided."""

_BESIDE = r"(?:\\t|\\u202f|[ \t,;|&\"'()\[\]{}\\])"
_AROUND = r"(?:\\[nrt]|[\s,;|&\"'()\[\]{}\\])"
_NO_NUMBER = r"\\N|NULL|[Nn]ull|None|NaN|nan"
_HEX = r"(?:0x)?(?=[A-Fa-f.:]*\d)[0-9A-Fa-f.:]*[0-9A-Fa-f:]%?"


def _before(signs: str) -> re.Pattern[str]:
    return ascii_pattern(rf"(?:(?<!\.){LEFT})(?P<token>[+-]?{_HEX}|{_NO_NUMBER}){signs}{{1,6}}\Z")


def _after(signs: str) -> re.Pattern[str]:
    return ascii_pattern(rf"{signs}{{1,6}}[+-]?(?P<token>(?:0x)?(?=[A-Fa-f]*\d)[0-9A-Fa-f][0-9A-Fa-f.:]*)(?![A-Za-z_])")


_TOKEN_BESIDE = _before(_BESIDE), _after(_BESIDE)
_TOKEN_AROUND = _before(_AROUND), _after(_AROUND)
_GLUED_BEFORE = ascii_pattern(r"(?:(?<!\\)[@#/$^~+-]|[A-Za-z0-9_\])][-._+*@#/&?%]{1,2}|[0-9:]:)\Z")
_GLUED_AFTER = ascii_pattern(r"[-:._+*/@#&?=%^~]{0,2}[A-Za-z0-9_]|[/(\[]|::|\.\.")

_IDENTIFIERS = frozenset((
    "id", "ids", "uid", "gid", "pid", "tid", "guid", "uuid", "order", "orders", "ref", "refs", "reference", "ticket",
    "tickets", "case", "cases", "docket", "invoice", "invoices", "sku", "part", "parts", "p/n", "s/n", "pn", "sn",
    "model", "serial", "isbn", "issn", "doi", "pmid", "pmc", "arxiv", "ean", "upc", "gtin", "asin", "build",
    "builds", "version", "versions", "commit", "commits", "rev", "revision", "run", "runs", "job", "jobs", "task",
    "tasks", "trace", "traces", "span", "spans", "session", "sessions", "request", "requests", "req", "txn", "trx",
    "transaction", "transactions", "tracking", "shipment", "lot", "batch", "item", "items", "article", "articles",
    "product", "products", "timestamp", "timestamps", "ts", "time", "date", "epoch", "offset", "size", "bytes",
    "line", "lines", "row", "rows", "page", "pages", "node", "nodes", "shard", "shards", "block", "blocks", "height",
    "hash", "checksum", "crc", "status", "channel", "channels", "user", "users", "message", "messages", "thread",
    "threads", "post", "posts", "tweet", "tweets", "video", "videos", "snowflake", "nonce", "seed", "port",
    "population", "chr", "index", "key", "count", "total", "sum", "length", "width", "value", "values", "val", "bug",
    "issue", "rfc", "section", "clause", "chapter", "vol", "volume", "pp", "figure", "fig", "table",
))  # fmt: skip
GOODS = frozenset((
    "sku", "part", "parts", "p/n", "s/n", "pn", "sn", "serial", "serials", "isbn", "ean", "upc", "gtin", "asin", "lot",
    "batch", "tracking", "shipment", "invoice", "invoices",
))  # fmt: skip
"""Of these, what is numbered in groups of four as well."""
_SUFFIXES = frozenset(("id", "ids", "no", "nr", "num", "number", "code", "key", "ref", "at", "ts", "time"))
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ESCAPED = frozenset("nrtbf")
"""Letters of escapes in JSON."""
_JOINTS = tuple("._-/")
_SIGNS = " \t\n\"':=.([<>*`#-"
_IN_NAME = re.compile(r"(?:[A-Za-z0-9][/._-](?!(?i:no|nr|num)\.)[A-Za-z]+\.|(?<![\w.])10\.\d{4,9}/[^\s\"'<>]{1,24})\Z")
"""A name with dots, or a DOI (https://www.doi.org/the-identifier/resources/handbook/2_numbering)."""
_CAMEL = re.compile(r"[a-z](?:Id|ID|Ref|No|Num|Time|At|Ts|Key)\Z")
_JSON_NUMBER = re.compile(r"[A-Za-z0-9_]\\?\"\s{0,2}:\s{0,2}\Z")


def is_named(text: str, begin: int, names: frozenset[str] = _IDENTIFIERS) -> bool:
    """Whether the word before says that a number is something else: an order, an identifier, a time, a size."""
    before = text[max(0, begin - 32) : begin]
    head = before.rstrip(_SIGNS)
    if not 0 < len(before) - len(head) < 6 or head[-1:] not in _LETTERS:
        return False
    stem = head.rstrip(_LETTERS + "/")
    word = head[len(stem) :]
    if stem[-1:] == "\\" and word[0] in _ESCAPED:
        word = word[1:]
    if word.lower() in names:
        return True
    if word in _SUFFIXES or word.lower() in _SUFFIXES:
        return _last_word(stem.rstrip(" _-.")) in names
    return names is _IDENTIFIERS and _CAMEL.search(word) is not None


def _last_word(text: str) -> str:
    return text[len(text.rstrip(_LETTERS)) :].lower()


def is_in_name(text: str, begin: int) -> bool:
    """Whether the word before is a piece of a name that goes on in a number, and announces nothing."""
    return text[begin - 1 : begin] in _JOINTS and _IN_NAME.search(text, max(0, begin - 40), begin) is not None


def is_glued(text: str, begin: int, end: int) -> bool:
    """Whether it is a piece of something longer: a path, a version, an identifier with signs in it, code."""
    if _GLUED_AFTER.match(text, end) is not None:
        return True
    return _GLUED_BEFORE.search(text[max(0, begin - 3) : begin]) is not None


def number_before(text: str, begin: int, *, lines: bool = False) -> str:
    """The number that stands before, with nothing but signs of tables and lists between; empty when there is none.

    `lines`: one at the end of the line before counts too.
    """
    pattern = (_TOKEN_AROUND if lines else _TOKEN_BESIDE)[0]
    match = pattern.search(text, max(0, begin - BEFORE), begin)
    return "" if match is None else match["token"]


def number_after(text: str, end: int, *, lines: bool = False) -> str:
    """The number that follows, as far as it is looked at."""
    match = (_TOKEN_AROUND if lines else _TOKEN_BESIDE)[1].match(text, end, end + AFTER)
    return "" if match is None else match["token"]


def is_json_number(text: str, begin: int) -> bool:
    """Whether a bare number stands under a key of JSON, which says what it is."""
    return _JSON_NUMBER.search(text, max(0, begin - 8), begin) is not None
