"""New settings for a gateway that is running: all of them or none, and never a gateway that is half of each.

A reload is asked for by SIGHUP, by `POST /admin/reload`, or by a change of the settings file. What cannot be changed in
a running process, or is wrong, leaves everything as it was, with one line that says what to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from serving.errors import SettingsError
from serving.settings import Settings

log = logging.getLogger(__name__)

# A file that has not changed for so long is whole; one that never rests is read after so many looks.
SETTLE_S = 0.2
_MOST_LOOKS = 20


class Part(NamedTuple):
    """Something that can take on new settings: atomically, or not at all with a ValueError of one line."""

    settings: tuple[str, ...]
    """The dotted settings that it takes on; a prefix stands for everything below."""
    apply: Callable[[Settings], None]


class Reloader:
    """Takes a running gateway from one set of settings to another.

    Args:
        settings: what the gateway runs with.
        load: reads them again, from where they came.
        parts: what takes them on; a setting that belongs to none needs a restart.
        count: told whether each reload succeeded.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        parts: Sequence[Part],
        count: Callable[[bool], None],
    ) -> None:
        self.settings = settings
        """What runs now."""
        self._load = load
        self._parts = parts
        self._count = count

    def is_current(self) -> bool:
        """Whether what runs is what would be read now."""
        try:
            return not _changes(self.settings.model_dump(), self._load().model_dump())
        except SettingsError:
            return False

    def reload(self) -> list[str]:
        """The settings that changed, dotted; empty when nothing did.

        Raises:
            SettingsError: nothing was changed; `str()` says why in one line.
        """
        try:
            changed = self._reload()
        except SettingsError as error:
            self._count(False)
            log.error("settings not reloaded", extra={"reason": str(error)})
            raise
        self._count(True)
        if changed:
            log.info("settings reloaded", extra={"settings": changed})
        return changed

    def _reload(self) -> list[str]:
        new = self._load()
        changed = _changes(self.settings.model_dump(), new.model_dump())
        fixed = [name for name in changed if not any(_covers(part, name) for part in self._parts)]
        if fixed:
            raise SettingsError(
                f"changing {', '.join(fixed)} needs a restart; nothing was changed. "
                "Take the change back, or restart the gateway."
            )
        self._apply(new, [part for part in self._parts if any(_covers(part, name) for name in changed)])
        self.settings = new
        return changed

    def _apply(self, new: Settings, parts: Sequence[Part]) -> None:
        done: list[Part] = []
        try:
            for part in parts:
                part.apply(new)
                done.append(part)
        except (ValueError, OSError) as error:
            for part in done:
                part.apply(self.settings)
            raise SettingsError(f"the new settings cannot be used, so nothing was changed: {error}") from None


class WatchedFiles:
    """Files as they are when this is made: whoever reads them afterwards misses no later change.

    A mounted ConfigMap changes by a symbolic link that points elsewhere: time, size and inode are of the target.
    """

    def __init__(self, paths: Callable[[], Sequence[Path]]) -> None:
        self.paths = paths
        self._seen = _fingerprint(paths())

    async def run(self, interval_s: float, changed: Callable[[], None]) -> None:
        """Call `changed` whenever one of the files is another one than before; runs until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            now = await asyncio.to_thread(_fingerprint, self.paths())
            if now == self._seen:
                continue
            # Many editors empty a file before they write it: it is read when it no longer changes.
            for _ in range(_MOST_LOOKS):
                await asyncio.sleep(min(SETTLE_S, interval_s))
                before, now = now, await asyncio.to_thread(_fingerprint, self.paths())
                if now == before:
                    break
            self._seen = now
            changed()


def _fingerprint(paths: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    fingerprint: list[tuple[int, int, int] | None] = []
    for path in paths:
        files = sorted(path.glob("*")) if path.is_dir() else [path]
        for file in files:
            try:
                status = file.stat()
                fingerprint.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                fingerprint.append(None)
    return fingerprint


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], before: str = "") -> list[str]:
    """Dotted names of the settings that differ."""
    changes: list[str] = []
    for name in dict.fromkeys([*old, *new]):
        dotted = f"{before}.{name}" if before else name
        mine, theirs = old.get(name), new.get(name)
        if mine == theirs:
            continue
        # Two levels are fields of ours; below them are tables keyed by the user's own names.
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping) and not before:
            changes += _changes(mine, theirs, dotted)
        else:
            changes.append(dotted)
    return changes


def _covers(part: Part, name: str) -> bool:
    return any(name == covered or name.startswith(f"{covered}.") for covered in part.settings)
