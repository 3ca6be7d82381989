"""The folder of all state: whether it can be written, and whether only its owner can read what is secret there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from serving.doctor.finding import Finding, error, warning
from serving.doctor.volume import check_volume, existing_parent
from serving.settings import Settings

_OTHERS = stat.S_IRWXO
_SECRET = ("signet.db", "first_key", "keys/registry.pem")


def check_home(settings: Settings) -> Iterator[Finding]:
    """`settings.home`."""
    home = settings.home
    parent = existing_parent(home)
    if not parent.is_dir():
        yield error(
            f"{home} cannot be the home: {parent} is a file",
            "keys, ledger and registry have no place",
            "remove the file, or set `home` (SIGNET_HOME) to a folder",
        )
        return
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        yield error(
            f"the home {home} cannot be written by this user (uid {os.geteuid()})",
            "keys, ledger and registry have no place, so nothing starts",
            f"make {parent} writable for this user, or set `home` (SIGNET_HOME) to another folder",
        )
        return
    yield from check_volume(home, "the home")
    yield from _open_to_others(home)
    yield from _journal(settings)


def _open_to_others(home: Path) -> Iterator[Finding]:
    for file in (home / name for name in _SECRET):
        if file.is_file() and (mode := stat.S_IMODE(file.stat().st_mode)) & _OTHERS:
            yield warning(
                f"{file} is open to every user of this machine (mode {mode:04o})",
                "it holds secrets, or records of who asked what",
                f"run chmod o= {file}",
            )


def _journal(settings: Settings) -> Iterator[Finding]:
    refused = settings.spill_folder / "refused.jsonl"
    if refused.is_file():
        yield warning(
            f"{refused} holds records that the database refused",
            "these answers are missing in usage and audit",
            "the gateway's log says why at the time; add the rows by hand, then delete the file",
        )
