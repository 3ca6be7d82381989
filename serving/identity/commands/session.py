"""What all commands on tenants and keys share: opening the database, and writing each change to the audit chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from serving.database import DatabaseError
from serving.database.command import LoadSettings, operator
from serving.identity.errors import IdentityError
from serving.identity.store import IdentityStore
from serving.ledger.anchor import write_audit

__all__ = ["LoadSettings", "Session", "open_session"]

Result = TypeVar("Result")


class Session:
    """The configured database: `store` to read, `change` to change."""

    def __init__(self, store: IdentityStore) -> None:
        self.store = store

    def change(self, action: str, subject: str, details: Mapping[str, Any], work: Callable[[], Result]) -> Result:
        """Write an action to the audit chain, then do it; the same order and rows as the admin API's."""
        write_audit(self.store.database, operator(), action, subject, details)
        try:
            return work()
        except IdentityError as error:
            write_audit(self.store.database, operator(), f"{action}.failed", subject, {"reason": str(error)})
            raise


@contextmanager
def open_session(load_settings: LoadSettings) -> Iterator[Session]:
    """A session with the configured database; its errors end the command in one line."""
    settings = load_settings()
    url = settings.database.resolve(settings.home)
    try:
        store = IdentityStore(url)
        try:
            yield Session(store)
        finally:
            store.close()
    except (IdentityError, DatabaseError) as error:
        raise click.ClickException(str(error)) from error
    except UnicodeError as error:
        raise click.ClickException("what was typed is not valid UTF-8") from error
