"""One row of the `requests` table: what was asked by whom, and what it cost. Never the text."""

from __future__ import annotations

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table, Text

from serving.database import metadata
from serving.ledger.links import link_columns


class UsageRecord(msgspec.Struct, frozen=True, gc=False, tag="request"):
    """The settled usage of one request. Fields stand in the order of the table's columns."""

    request_id: str
    """`req_` and 24 hexadecimal digits; unique in the ledger."""
    created_at: float
    """Unix time of arrival, seconds."""
    tenant: str
    key_id: str
    model: str
    """As served, not as asked."""
    endpoint: str
    """`chat`, `completions`, …"""
    status: int
    """HTTP status the client saw; 499 when it went away."""
    streamed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_chars: int = 0
    answer_chars: int = 0
    refused: bool = False
    """The model or the policy declined to answer."""
    guard_hits: int = 0
    """Values masked, stripped or made inert, both directions."""
    mark_scheme: str = ""
    """Empty: the answer carries no mark."""
    mark_key_id: str = ""
    ttft_s: float | None = None
    """Arrival to the first token sent; None when no token was."""
    duration_s: float = 0.0
    finish_reason: str = ""
    engine: str = ""
    """Name or address of the engine that answered."""
    asked_model: str = ""
    """The name the client wrote: an alias, a template, a canary's; else the same as `model`."""
    cost_nanos: int = 0
    """What the tokens cost, in nano-dollars (1e-9 USD), by the price list of the moment."""
    continued: int = 0
    """How often the answer was continued on another engine."""
    priority: int = 0
    """Urgency it was served with; larger is more urgent."""
    policy: str = ""
    """SHA-256 of the policy that the guard applied."""
    receipt: str | None = None
    """The sealed statement about the answer, a JWS that its receipt is made from; None: there is none.

    Rows of earlier versions hold signed receipts, without the salts that open their hashes.
    """


# What clients and operators name as they like: kept whole. SQLite's column says a length and knows none.
_ANY_LENGTH = Text().with_variant(String(255), "sqlite")

requests = Table(
    "requests",
    metadata,
    # Order of commit: readers that follow the table keep the last id they saw.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("created_at", Float(53), nullable=False, index=True),
    Column("tenant", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("model", _ANY_LENGTH, nullable=False),
    Column("endpoint", String(32), nullable=False),
    Column("status", Integer, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("prompt_chars", Integer, nullable=False),
    Column("answer_chars", Integer, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("guard_hits", Integer, nullable=False),
    Column("mark_scheme", String(32), nullable=False),
    Column("mark_key_id", String(64), nullable=False),
    Column("ttft_s", Float(53)),
    Column("duration_s", Float(53), nullable=False),
    Column("finish_reason", String(32), nullable=False),
    Column("engine", _ANY_LENGTH, nullable=False),
    # Server defaults let these columns be added to tables that hold rows.
    Column("asked_model", _ANY_LENGTH, nullable=False, server_default=""),
    Column("cost_nanos", BigInteger, nullable=False, server_default="0"),
    Column("continued", Integer, nullable=False, server_default="0"),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("policy", String(64), nullable=False, server_default=""),
    Column("receipt", String(8192)),
    *link_columns(),
)
