"""Writes single administrative records from a command, and anchors: heads of all chains, to be noted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Engine, select

from serving.database import DatabaseError, explained
from serving.ledger.audit import audit, audit_record
from serving.ledger.links import chains
from serving.ledger.verify import ANCHOR_ACTION
from serving.ledger.writer import LedgerUnavailable, RecordWriter


class Head(NamedTuple):
    """One record of one chain, by its hash. `str()` is what people note: `CHAIN:NUMBER:HASH`."""

    chain: str
    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.chain}:{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Raises ValueError when `text` is not of that form."""
        chain, seq, digest = text.strip().split(":")
        value = bytes.fromhex(digest)
        if len(value) != 32:
            raise ValueError("the hash must have 64 hexadecimal digits")
        return cls(chain, int(seq), value)


def write_audit(
    engine: Engine, actor: str, action: str, subject: str, details: Mapping[str, Any] | None = None
) -> Head:
    """Record an administrative action of a command, in a chain of its own; blocks until it is durable.

    Raises:
        DatabaseError: it could not be written.
    """
    writer = RecordWriter(engine, actor)
    try:
        writer.write([audit_record(actor, action, subject, details)])
        return Head(*writer.head)
    except LedgerUnavailable as error:
        raise DatabaseError(str(error)) from error
    finally:
        writer.close()


def anchor(engine: Engine, actor: str) -> Head:
    """Record the heads of all chains, and give the record's own: whoever has it can prove all of them later.

    Raises:
        DatabaseError: it could not be written.
    """
    return write_audit(engine, actor, ANCHOR_ACTION, "", grown_heads(engine, {}))


def grown_heads(engine: Engine, known: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """By its name, how long each chain is that is not as in `known`, and its head in hexadecimal digits.

    Raises:
        DatabaseError: the database cannot be read.
    """
    query = select(chains.c.name, chains.c.seq, chains.c.head).order_by(chains.c.id)
    with explained(engine), engine.connect() as connection:
        heads = {name: (seq, head.hex()) for name, seq, head in connection.execute(query)}
    return {name: head for name, head in heads.items() if known.get(name) != head}


def head_of_event(engine: Engine, event_id: str) -> Head | None:
    """Where an administrative record stands; None: it is not in the database.

    Raises:
        DatabaseError: the database cannot be read.
    """
    query = select(chains.c.name, audit.c.seq, audit.c.hash).join(chains, chains.c.id == audit.c.chain)
    with explained(engine), engine.connect() as connection:
        row = connection.execute(query.where(audit.c.event_id == event_id)).first()
    return None if row is None else Head(*row)
