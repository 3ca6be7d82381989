"""API keys: made, changed, rotated, revoked, listed."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from typing import Any, Unpack

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from serving.identity.errors import AlreadyExists, InvalidValue, NotFound
from serving.identity.fields import KeyFields, check_tenant_name, key_columns
from serving.identity.key import digest_of, generate_key
from serving.identity.principal import KeyInfo, Limits, NewKey
from serving.identity.rows import key_info, load_budgets
from serving.identity.schema import api_keys, budgets, retired_secrets, tenants
from serving.identity.store.transactions import Transactions, check_version

MAX_GRACE_S = 90 * 86400.0
"""Longest time that a rotated key's old secret may stay valid."""


def new_key_id() -> str:
    return f"key_{secrets.token_hex(8)}"


class KeyStore(Transactions):
    """The keys of one database."""

    def create_key(
        self,
        tenant: str,
        *,
        limits: Limits | None = None,
        key_id: str | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[KeyFields],
    ) -> NewKey:
        """Make a key, and its tenant when new.

        Unless told otherwise answers are marked, and a request may choose by `X-Signet-Mark`.

        Args:
            tenant: who is billed.
            limits: instead of the three fields.
            key_id: chosen by the caller, from `new_key_id`.
            idempotency_key: any text; a second call with it makes no second key.
            fields: see `KeyFields`.

        Raises:
            InvalidValue: the tenant's name or a field is not allowed.
            AlreadyExists: a key was made with this idempotency key before; it cannot be shown again.
        """
        check_tenant_name(tenant)
        if limits is not None:
            fields["requests_per_minute"] = limits.requests_per_minute
            fields["tokens_per_minute"] = limits.tokens_per_minute
            fields["concurrency"] = limits.concurrency
        key, key_id = generate_key(), key_id or new_key_id()
        repeated = hashlib.sha256(idempotency_key.encode()).digest() if idempotency_key else None
        row = {
            "admin": False,
            "mark_default": "on",
            "mark_allowed": True,
            **key_columns(fields),
            "id": key_id,
            "tenant": tenant,
            "digest": digest_of(key),
            "hint": key[-4:],
            "created_at": time.time(),
            "idempotency_digest": repeated,
        }
        with self._changing() as connection:
            if repeated is not None:
                made = connection.scalar(select(api_keys.c.id).where(api_keys.c.idempotency_digest == repeated))
                if made is not None:
                    raise AlreadyExists(f"this request made {made} before, which cannot be shown again: rotate it")
            if connection.scalar(select(tenants.c.name).where(tenants.c.name == tenant)) is None:
                connection.execute(insert(tenants).values(name=tenant, created_at=time.time()))
            connection.execute(insert(api_keys).values(**row))
        return NewKey(key_id, key, tenant)

    def update_key(self, key_id: str, expected_version: int | None = None, **changes: Unpack[KeyFields]) -> KeyInfo:
        """Change what is named and leave the rest.

        Raises:
            InvalidValue: a value is not allowed, or the key is revoked.
            NotFound: there is no such key.
            VersionConflict: its version is not the expected one.
        """
        columns = key_columns(changes)
        with self._changing() as connection:
            live_key(connection, key_id, expected_version)
            change_key(connection, key_id, columns)
            return key_of(connection, key_id)

    def rotate_key(self, key_id: str, grace_s: float = 0.0, expected_version: int | None = None) -> NewKey:
        """Give a key a new secret; the one until now stays valid for `grace_s` seconds, under the same id.

        Raises:
            InvalidValue: the grace is too long, or the key is revoked or has expired.
            NotFound, VersionConflict: as `update_key`.
        """
        if not 0 <= grace_s <= MAX_GRACE_S:
            raise InvalidValue(f"the grace must be at most {MAX_GRACE_S / 86400:g} days")
        key, now = generate_key(), time.time()
        with self._changing() as connection:
            row = live_key(connection, key_id, expected_version)
            if row.expires_at is not None and row.expires_at <= now:
                raise InvalidValue(f"key {key_id} has expired: set when it expires first")
            connection.execute(delete(retired_secrets).where(retired_secrets.c.valid_until <= now))
            if grace_s:
                connection.execute(
                    insert(retired_secrets).values(
                        digest=row.digest, key_id=key_id, hint=row.hint, valid_until=now + grace_s
                    )
                )
            else:  # a leaked secret is replaced at once, and with it those that earlier rotations left valid
                connection.execute(delete(retired_secrets).where(retired_secrets.c.key_id == key_id))
            change_key(connection, key_id, {"digest": digest_of(key), "hint": key[-4:], "rotated_at": now})
        return NewKey(key_id, key, row.tenant)

    def revoke(self, key_id: str) -> None:
        """End a key, its secrets in grace too. Revoking it again changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        with self._changing() as connection:
            row = key_row(connection, key_id)
            if row.revoked_at is None:
                connection.execute(delete(retired_secrets).where(retired_secrets.c.key_id == key_id))
                change_key(connection, key_id, {"revoked_at": time.time()})

    def key(self, key_id: str) -> KeyInfo:
        """One key.

        Raises:
            NotFound: there is no such key.
        """
        with self._reading() as connection:
            return key_of(connection, key_id)

    def list_keys(self, tenant: str | None = None, after: str | None = None, limit: int | None = None) -> list[KeyInfo]:
        """Keys, revoked ones too, oldest first.

        Args:
            tenant: only its keys.
            after: begin behind this key.
            limit: at most so many.

        Raises:
            NotFound: there is no key `after`.
        """
        columns = api_keys.c
        query = select(api_keys).order_by(columns.created_at, columns.id).limit(limit)
        if tenant is not None:
            query = query.where(columns.tenant == tenant)
        with self._reading() as connection:
            if after is not None:
                last = key_row(connection, after)
                same = and_(columns.created_at == last.created_at, columns.id > last.id)
                query = query.where(or_(columns.created_at > last.created_at, same))
            spending = load_budgets(connection, budgets.c.scope == "key")
            return [key_info(row, spending) for row in connection.execute(query)]

    def note_used(self, key_ids: Iterable[str], moment: float) -> None:
        """Note that these keys were used, at unix second `moment`. No change that gateways need to follow."""
        with self._reading() as connection, connection.begin():
            for key_id in sorted(key_ids):  # in one order everywhere: two gateways cannot wait for each other
                older = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < moment)
                connection.execute(update(api_keys).where(api_keys.c.id == key_id, older).values(last_used_at=moment))


def key_row(connection: Connection, key_id: str) -> Row[Any]:
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id[:80]!r}: see `signet keys list`")
    return row


def live_key(connection: Connection, key_id: str, expected_version: int | None) -> Row[Any]:
    row = key_row(connection, key_id)
    check_version(row.version, expected_version, f"key {key_id}")
    if row.revoked_at is not None:
        raise InvalidValue(f"key {key_id} is revoked")
    return row


def change_key(connection: Connection, key_id: str, columns: dict[str, Any]) -> None:
    connection.execute(
        update(api_keys).where(api_keys.c.id == key_id).values(**columns, version=api_keys.c.version + 1)
    )


def key_of(connection: Connection, key_id: str) -> KeyInfo:
    row = key_row(connection, key_id)
    return key_info(row, load_budgets(connection, budgets.c.scope == "key", budgets.c.owner == key_id))
