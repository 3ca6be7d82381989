"""What all commands on the database share: opening it from the settings, and who runs them."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click
from sqlalchemy import Engine

from serving.database.engine import DatabaseError, open_engine
from serving.database.migrate import SchemaCheck
from serving.database.reading import Reader
from serving.database.settings import DatabaseSettings, Migrate


class CommandSettings(Protocol):
    """What these commands read of the settings tree."""

    @property
    def home(self) -> Path: ...
    @property
    def database(self) -> DatabaseSettings: ...


LoadSettings = Callable[[], CommandSettings]


@contextmanager
def opened(load_settings: LoadSettings, migrate: Migrate | None = None) -> Iterator[Engine]:
    """The configured database, its tables fit for this version; its errors end the command in one line."""
    settings = load_settings()
    migrate = migrate or settings.database.migrate
    try:
        engine = open_engine(settings.database.resolve(settings.home))
        try:
            SchemaCheck(engine, migrate).ensure()
            yield engine
        finally:
            engine.dispose()
    except DatabaseError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def reading(load_settings: LoadSettings) -> Iterator[Reader]:
    """The configured database for a report, or its replica, for as long as it takes; errors as with `opened`."""
    settings = load_settings()
    try:
        if settings.database.read_url is None:
            with opened(load_settings):  # its tables are made, or upgraded
                pass
        reader = Reader(settings.database.resolve_reads(settings.home))
        try:
            yield reader
        finally:
            reader.close()
    except DatabaseError as error:
        raise click.ClickException(str(error)) from error


def operator() -> str:
    """Who runs this command, for the audit record."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return "cli"
