"""Tenants and keys: changed in the database, checked in memory."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from serving.identity.key import digest_of, generate_key
from serving.identity.principal import (
    IdentityError,
    KeyInfo,
    Limits,
    MarkDefault,
    NewKey,
    Principal,
)
from serving.identity.rows import limits_of, load_principals, mark_policy_of
from serving.identity.schema import TABLES, api_keys, identity_revision, tenants
from serving.identity.settings import IdentitySettings
from serving.ledger.database import create_tables, explain, open_engine

logger = logging.getLogger(__name__)

TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Identity:
    """The keys of one database. `start` follows changes made by other processes; `refresh` looks once.

    Raises:
        DatabaseError, IdentityError: (constructor) the database cannot be opened, or not written now.
    """

    def __init__(self, url: str, settings: IdentitySettings | None = None) -> None:
        self._settings = settings or IdentitySettings()
        self._engine = open_engine(url)
        create_tables(self._engine, *TABLES)
        self._insert_once(identity_revision, {"id": 1, "revision": 1})
        self._principals: dict[bytes, Principal] = {}
        self._revision = -1
        self._reload_lock = threading.Lock()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="signet-identity", daemon=True)
        self.refresh()

    def authenticate(self, presented: str) -> Principal | None:
        """Whose key this is, or None. In memory, about a microsecond.

        What is looked up is the digest: a caller who measures how long the lookup takes learns about a hash
        it cannot steer, never how many characters of a key were right.
        """
        principal = self._principals.get(digest_of(presented))
        if principal is None or principal.expires_at is None or time.time() < principal.expires_at:
            return principal
        return None

    def start(self) -> None:
        """Follow the database from a background thread until `close`."""
        self._poller.start()

    def close(self) -> None:
        """Stop following and release the database."""
        self._stopping.set()
        if self._poller.is_alive():
            self._poller.join()
        self._engine.dispose()

    def refresh(self) -> bool:
        """Take over what changed since the last look; True when something did.

        Raises:
            IdentityError: the database cannot be read; the keys known so far stay valid.
        """
        with self._reload_lock:
            try:
                with self._engine.connect() as connection:
                    # The revision first: a change in between is seen again at the next look, never missed.
                    revision = connection.scalar(select(identity_revision.c.revision)) or 0
                    if revision == self._revision:
                        return False
                    principals = load_principals(connection)
            except SQLAlchemyError as error:
                raise IdentityError(explain(self._engine, error)) from error
            self._principals = principals
            self._revision = revision
            return True

    def create_key(
        self,
        tenant: str,
        *,
        admin: bool = False,
        limits: Limits | None = None,
        mark: MarkDefault = "on",
        may_choose_mark: bool = True,
    ) -> NewKey:
        """Make a key, and its tenant when new.

        Unless told otherwise answers are marked, and a request may choose by `X-Signet-Mark`.

        Raises:
            IdentityError: the tenant's name or a limit is not allowed, or the database cannot be written.
        """
        if not TENANT_NAME.fullmatch(tenant):
            raise IdentityError(
                f"{tenant!r} is not a tenant name: use at most 63 lower-case letters, digits, '.', '_', '-', "
                "beginning with a letter or digit"
            )
        limits = limits or Limits()
        _check_limits(limits)
        key, key_id = generate_key(), f"key_{secrets.token_hex(8)}"
        row = {
            "id": key_id,
            "tenant": tenant,
            "digest": digest_of(key),
            "hint": key[-4:],
            "admin": admin,
            "requests_per_minute": limits.requests_per_minute,
            "tokens_per_minute": limits.tokens_per_minute,
            "concurrency": limits.concurrency,
            "mark_default": mark,
            "mark_allowed": may_choose_mark,
            "created_at": time.time(),
        }
        self._insert_once(tenants, {"name": tenant, "created_at": time.time()})
        try:
            with self._engine.begin() as connection:
                _count_up(connection)
                connection.execute(insert(api_keys).values(**row))
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error
        self.refresh()
        return NewKey(key_id, key, tenant)

    def revoke(self, key_id: str) -> None:
        """End a key. Revoking it again changes nothing.

        Raises:
            IdentityError: there is no such key, or the database cannot be written.
        """
        try:
            with self._engine.begin() as connection:
                _count_up(connection)
                found = connection.scalar(select(api_keys.c.id).where(api_keys.c.id == key_id))
                connection.execute(
                    update(api_keys)
                    .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                    .values(revoked_at=time.time())
                )
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error
        if found is None:
            raise IdentityError(f"there is no key {key_id!r}: see `signet keys list`")
        self.refresh()

    def list_keys(self) -> list[KeyInfo]:
        """All keys, revoked ones too, oldest first."""
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).all()
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error
        return [_key_info(row) for row in rows]

    def tenants(self) -> list[str]:
        """The names of all tenants, sorted."""
        try:
            with self._engine.connect() as connection:
                return list(connection.scalars(select(tenants.c.name).order_by(tenants.c.name)))
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error

    def _insert_once(self, into: Table, row: dict[str, Any]) -> None:
        """Insert a row unless its key is there: in a transaction of its own, right when two do it at once."""
        [key] = into.primary_key.columns
        try:
            with self._engine.begin() as connection:
                if connection.scalar(select(key).where(key == row[key.name])) is None:
                    connection.execute(insert(into).values(**row))
        except IntegrityError:
            logger.debug("%s: another process was first", into.name)
        except SQLAlchemyError as error:
            raise IdentityError(explain(self._engine, error)) from error

    def _poll(self) -> None:
        failing = False
        while not self._stopping.wait(self._settings.poll_interval_s):
            try:
                if self.refresh():
                    logger.info("keys reloaded: %d valid", len(self._principals))
                failing = False
            except IdentityError as error:
                if not failing:  # once, not every second
                    logger.warning("%s; keys known so far stay valid", error)
                failing = True


def _check_limits(limits: Limits) -> None:
    named = {
        "requests per minute": limits.requests_per_minute,
        "tokens per minute": limits.tokens_per_minute,
        "concurrency": limits.concurrency,
    }
    for name, value in named.items():
        if value is not None and not 1 <= value <= 2_000_000_000:
            raise IdentityError(f"{name} must be between 1 and 2000000000, not {value}; leave it out for no limit")


def _count_up(connection: Connection) -> None:
    """Raise the revision. First in a transaction, so that on SQLite it takes the write lock at once."""
    connection.execute(update(identity_revision).values(revision=identity_revision.c.revision + 1))


def _key_info(row: Row[Any]) -> KeyInfo:
    return KeyInfo(
        id=row.id,
        tenant=row.tenant,
        hint=row.hint,
        admin=row.admin,
        limits=limits_of(row),
        mark=mark_policy_of(row),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
