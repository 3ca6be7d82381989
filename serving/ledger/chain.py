"""The hash chain of one writer: what each record's hash covers, and how a chain begins.

A record's hash is SHA-256 over the MessagePack encoding (https://msgpack.org) of the array
`[previous hash, chain name, sequence number, table name, every field of the record in the table's order]`:
bytes as bin, text as str, real numbers as float 64, everything else in its shortest form. A request's receipt is its
last field and is left out of the array where there is none, as in every record of the time before receipts. So a
changed field, a record taken out, and two in each other's place all break the chain, and anyone can recompute it.

One chain for each writing process, because writers that share a chain would wait for each other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, insert, select, text

from serving.ledger.audit import Entry
from serving.ledger.links import chains
from serving.ledger.record import UsageRecord

_encode = msgspec.msgpack.Encoder().encode
_values = msgspec.structs.astuple
_FORMAT = "signet-chain/1"


class Position(NamedTuple):
    """A chain up to one of its records: how many there are, and the last one's hash."""

    seq: int
    head: bytes


class Chain(NamedTuple):
    """A chain's identity. `number` is its row, which the records refer to; `name` is what is hashed."""

    number: int
    name: str


def entry_hash(previous: bytes, chain: str, seq: int, table: str, values: Sequence[Any]) -> bytes:
    """Hash of the record with these `values`, as number `seq` of `chain`."""
    if values[-1] is None:  # a request's receipt: the last field of an administrative action is always there
        values = values[:-1]
    return sha256(_encode((previous, chain, seq, table, *values))).digest()


def genesis_hash(name: str, started_at: float, writer: str, linked: tuple[str, int, bytes]) -> bytes:
    """Hash that stands before a chain's first record."""
    return sha256(_encode((_FORMAT, name, started_at, writer, *linked))).digest()


def link(chain: Chain, position: Position, entries: Sequence[Entry]) -> tuple[list[Any], list[Any], Position]:
    """Rows for `requests` and for `audit` (fields, then the link columns), and the chain's position after them."""
    number, name = chain
    seq, head = position
    requests: list[Any] = []
    audits: list[Any] = []
    for entry in entries:
        seq += 1
        values = _values(entry)
        is_request = isinstance(entry, UsageRecord)
        previous, head = head, entry_hash(head, name, seq, "requests" if is_request else "audit", values)
        (requests if is_request else audits).append((*values, number, seq, previous, head))
    return requests, audits, Position(seq, head)


def open_chain(engine: Engine, writer: str) -> tuple[Chain, Position]:
    """Begin a chain, linked to the newest one there is, so that a chain cannot vanish whole unnoticed."""
    with engine.connect() as connection:
        _lock(connection)
        newest = connection.execute(
            select(chains.c.name, chains.c.seq, chains.c.head).order_by(chains.c.id.desc()).limit(1)
        ).first()
        linked = (newest.name, newest.seq, newest.head) if newest is not None else ("", 0, b"")
        name, started_at = f"chain_{secrets.token_hex(8)}", time.time()
        genesis = genesis_hash(name, started_at, writer, linked)
        row = dict(zip(("linked_chain", "linked_seq", "linked_hash"), linked, strict=True))
        done = connection.execute(
            insert(chains).values(
                name=name, started_at=started_at, writer=writer, genesis=genesis, seq=0, head=genesis, **row
            )
        )
        connection.commit()
    assert done.inserted_primary_key is not None
    return Chain(done.inserted_primary_key[0], name), Position(0, genesis)


def stored_position(engine: Engine, chain: Chain) -> Position | None:
    """Where the database has the chain, once a transaction of ours that may still be open there has ended."""
    query = select(chains.c.seq, chains.c.head).where(chains.c.id == chain.number, chains.c.name == chain.name)
    with engine.begin() as connection:
        row = connection.execute(query.with_for_update()).first()
    return None if row is None else Position(row.seq, row.head)


def _lock(connection: Connection) -> None:
    """Two processes that begin at once must not both link to the same chain."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("LOCK TABLE chains IN SHARE ROW EXCLUSIVE MODE"))
