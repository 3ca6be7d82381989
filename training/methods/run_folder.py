"""The folder of one run: its saved state, from which it continues when it was interrupted, and its figures.

    SIGNET_HOME/runs/NAME-DIGEST/
        recipe.json      every setting as it is used
        metrics.jsonl    one line a step
        state.pt         the last saved state; gone when the run is done

DIGEST is of the recipe, the data and the base: the same run finds its folder again, another one never takes its state.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from serving.file_lock import file_lock
from training.disk import disk_fault
from training.errors import RecipeError, TrainingError
from training.registry import DataDigest
from training.registry.manifest import canonical_json

# What a user may change between two attempts without another result.
_OF_NO_CONSEQUENCE = ("micro_batch_size", "save_every", "sharding")


class RunFolder:
    """One run's folder. Written by the main process alone, read by all."""

    def __init__(self, path: Path, settings: dict[str, JsonValue]) -> None:
        self.path = path
        self._settings = settings
        self._state = path / "state.pt"
        self._metrics = path / "metrics.jsonl"

    @classmethod
    def of(
        cls, home: Path, name: str, settings: dict[str, JsonValue], data: Sequence[DataDigest], base: str = ""
    ) -> RunFolder:
        """The folder of the run with these settings, this data and this base (its digest)."""
        kept = {key: value for key, value in settings.items() if key not in _OF_NO_CONSEQUENCE}
        content = [kept, [digest.model_dump(mode="json") for digest in data], base]
        digest = hashlib.sha256(canonical_json(content)).hexdigest()[:12]
        return cls(home / "runs" / f"{name}-{digest}", settings)

    @contextmanager
    def held(self, is_main: bool = True) -> Iterator[None]:
        """Keep others from the same run for the block; raises RecipeError where it is going on already."""
        if not is_main:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with file_lock(self.path / "lock", on_wait=self._refuse):
            (self.path / "recipe.json").write_text(json.dumps(self._settings, indent=2) + "\n")
            yield

    def _refuse(self) -> None:
        raise RecipeError(f"this run is already in progress: {self.path}")

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state. Whatever kills the process leaves the old one or the new one."""
        partial = self._state.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            why = disk_fault(error, self._state)
            partial.unlink(missing_ok=True)
            if why is None:
                raise
            raise TrainingError(why) from None
        os.replace(partial, self._state)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state; None where there is none."""
        if not self._state.exists():
            return None
        # Tensors and plain values only: a state is data, never code.
        state: dict[str, Any] = torch.load(self._state, map_location=device, weights_only=True)
        return state

    def note(self, **figures: JsonValue) -> None:
        """Append a line of figures."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(figures) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the figures of steps from `step` on, which are about to be taken again."""
        if not self._metrics.exists():
            return
        lines = self._metrics.read_text().splitlines()
        kept = [line for line in lines if _step_of(line) < step]
        self._metrics.write_text("".join(f"{line}\n" for line in kept))

    def finish(self) -> None:
        """Drop the state: what it led to is registered."""
        self._state.unlink(missing_ok=True)


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # cut short when the process was killed
        return sys.maxsize
