"""What the commands on the ledger share: opening it from the settings, spans of time, progress."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import click
from sqlalchemy import Engine

from serving.ledger.database import DatabaseError, DatabaseSettings, open_engine
from serving.ledger.migrate import migrate


class LedgerCommandSettings(Protocol):
    """What these commands read of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def database(self) -> DatabaseSettings: ...


LoadSettings = Callable[[], LedgerCommandSettings]
A_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@contextmanager
def opened(load_settings: LoadSettings) -> Iterator[Engine]:
    """The configured database, its tables up to date; its errors end the command in one line."""
    settings = load_settings()
    try:
        engine = open_engine(settings.database.resolve(settings.home))
        try:
            migrate(engine)
            yield engine
        finally:
            engine.dispose()
    except DatabaseError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error where someone watches it."""
    with click.progressbar(range(1), label=label, file=sys.stderr, show_pos=True) as bar:

        def show(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield show


def unix_time(moment: datetime | None) -> float | None:
    """Times without a zone are UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()


def operator() -> str:
    """Who runs this command, for the audit record."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return "cli"
