"""What the commands on the ledger share: spans of time, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

A_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


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
