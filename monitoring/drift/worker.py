"""The drift worker: follows the ledger, and watches every model and version that answers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from monitoring.drift.detector import Alarm
from monitoring.drift.features import Answer
from monitoring.drift.sketch import Sketch
from monitoring.drift.watched import Watched
from monitoring.drift.window import LedgerReader, LedgerUnreadable
from monitoring.telemetry.settings import DriftSettings

logger = logging.getLogger(__name__)

MAX_WATCHED = 200
"""Models and versions; the one that has been silent longest makes room."""
_ROWS = 2000
"""Rows read at once."""
_CHUNKS = 25
"""Reads of one look: then what is known is saved."""
_FORMAT = 1
_DAY_S = 86_400.0

FindReference = Callable[[str, str], Mapping[str, Sketch] | None]
"""(model, digest of its version or nothing) to the reference that its checkpoint has recorded."""


class UnusableState(Exception):
    """The state file cannot be read or written; `str()` is one line."""


class DriftWorker:
    """Reads what the ledger has gained, and keeps where it is and all evidence in one file.

    A restart goes on from the file: rows are neither left out nor counted twice, as their number and the evidence from
    them are written together.
    """

    def __init__(
        self, reader: LedgerReader, find_reference: FindReference, settings: DriftSettings, file: Path, now: float
    ) -> None:
        """Raises UnusableState."""
        self.watched: dict[tuple[str, str], Watched] = {}
        self._reader = reader
        self._find_reference = find_reference
        self._settings = settings
        self._file = file
        self._begun_at = now
        self.is_behind = False
        """Whether the last look ended before the ledger did: the next one need not wait."""
        self._row: int | None = None
        self._rating_row = 0
        self._load()

    def expect(self, model: str) -> None:
        """Watch a model before its first answer, so that its metrics are there."""
        if not any(name == model for name, _ in self.watched):
            self._of(model, "")

    def look(self, now: float) -> list[Alarm]:
        """Take in everything that is new, and save.

        Raises:
            LedgerUnreadable: now; a later call may succeed, and goes on where this one ended.
            UnusableState: the file cannot be written.
        """
        if self._row is None:
            # A new worker reads the last days at once: they may already be enough for a reference.
            self._row = self._reader.first_row(self._begun_at - self._settings.reference_days * _DAY_S)
        self._renew_references()
        alarms: list[Alarm] = []
        try:
            for _ in range(_CHUNKS):
                answers, row = self._reader.answers_after(self._row, _ROWS, now)
                alarms += self._take(answers)
                self._row, moved = row, row != self._row
                if not moved:
                    break
            alarms += self._take_ratings(now)
        except LedgerUnreadable:
            self._save()
            raise
        self.is_behind = moved
        self._save()
        return alarms

    def _take_ratings(self, now: float) -> list[Alarm]:
        try:
            ratings, self._rating_row = self._reader.ratings_after(self._rating_row, _ROWS, now)
        except LedgerUnreadable:
            return []  # a database from before there were any
        return self._take(ratings)

    def _take(self, answers: Iterable[Answer]) -> list[Alarm]:
        groups: dict[tuple[str, str], list[Answer]] = {}
        for answer in answers:
            groups.setdefault((answer.model, answer.version), []).append(answer)
        alarms: list[Alarm] = []
        for (model, version), own in groups.items():
            raised = self._of(model, version).add(own)
            for alarm in raised:
                logger.warning(
                    "drift: %s of %s %s (%s %s)",
                    ", ".join(alarm.features),
                    model,
                    version[:19],
                    alarm.score,
                    "higher" if alarm.higher else "lower",
                )
            alarms += raised
        return alarms

    def _of(self, model: str, version: str) -> Watched:
        watched = self.watched.get((model, version))
        if watched is None:
            if len(self.watched) >= MAX_WATCHED:
                del self.watched[min(self.watched, key=lambda key: self.watched[key].last_at)]
            watched = self.watched[model, version] = Watched(model, version, self._settings)
            self._renew(watched)
            expected = self.watched.get((model, ""))
            if version and expected is not None and not expected.last_at:
                del self.watched[model, ""]
        return watched

    def _renew_references(self) -> None:
        """A reference may be recorded, or recorded again, while this runs."""
        for watched in self.watched.values():
            self._renew(watched)

    def _renew(self, watched: Watched) -> None:
        recorded = self._find_reference(watched.model, watched.version)
        if recorded is not None and not watched.has_reference(recorded):
            watched.use_reference(recorded)

    def _load(self) -> None:
        state = read_state(self._file)
        if state is None:
            return
        self._row, self._rating_row = state["row"], state["rating_row"]
        for own in state["watched"]:
            try:
                watched = Watched.from_state(own, self._settings)
            except (KeyError, ValueError, TypeError):
                # Of another release: its features are others, and so is its evidence.
                logger.warning("drift: what was known of %s begins anew", own.get("model"))
                continue
            self.watched[watched.model, watched.version] = watched

    def _save(self) -> None:
        state = {
            "format": _FORMAT,
            "row": self._row,
            "rating_row": self._rating_row,
            "watched": [watched.state() for watched in self.watched.values()],
        }
        scratch = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("w") as file:
                json.dump(state, file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._file)
        except OSError as error:
            raise UnusableState(f"the drift worker's state cannot be kept in {self._file}: {error.strerror}") from error


def worker_file(home: Path) -> Path:
    """Where the worker of a SIGNET_HOME keeps what it knows."""
    return home / "drift" / "worker.json"


def read_state(file: Path) -> dict[str, Any] | None:
    """What a worker has saved; None: nothing yet.

    Raises:
        UnusableState: it cannot be read.
    """
    try:
        state = json.loads(file.read_text())
        if state["format"] != _FORMAT:
            raise UnusableState(f"{file} is of another version of Signet: remove it to begin anew")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableState(f"{file} cannot be read: remove it to begin anew ({type(error).__name__})") from error
    return dict(state)
