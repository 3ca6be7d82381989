"""The hash chain's part of the schema: one row for each chain, and four columns of every chained row."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, String, Table

from serving.database import metadata

chains = Table(
    "chains",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("started_at", Float(53), nullable=False),
    Column("writer", String(255), nullable=False),
    # The chain that was newest when this one began, and its head then; the first chain has none.
    Column("linked_chain", String(40), nullable=False),
    Column("linked_seq", BigInteger, nullable=False),
    Column("linked_hash", LargeBinary(32), nullable=False),
    Column("genesis", LargeBinary(32), nullable=False),
    # Written in the transaction of every batch.
    Column("seq", BigInteger, nullable=False),
    Column("head", LargeBinary(32), nullable=False),
)


def link_columns() -> tuple[Column[int], Column[int], Column[bytes], Column[bytes]]:
    """Columns that hold a row's place in its chain; NULL in rows older than the chains."""
    return (
        Column("chain", BigInteger),
        Column("seq", BigInteger),
        Column("previous_hash", LargeBinary(32)),
        Column("hash", LargeBinary(32)),
    )
