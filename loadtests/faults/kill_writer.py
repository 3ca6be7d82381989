"""Kills whoever writes to the registry, again and again: `python -m loadtests.faults.kill_writer [--kills 200]`.

A process registers small checkpoints, moves their aliases and stores drift references until SIGKILL ends it at a
random instant. Then a reader verifies all there is, and what the writer was told is done must be there; a next writer
goes on. Every tenth kill meets an empty registry without a key. Ends with 1 when a state is broken.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from training.registry import DriftReference, Histogram, ManifestDraft, Registry, RegistryError

NAME = "small"
DRAFT = ManifestDraft(kind="base")
# Longer than registering, promoting, rolling back and storing a reference take together.
LATEST_S = 0.08
KILLS_OF_A_REGISTRY = 10
_LENGTHS = Histogram(edges=[0, 1], counts=[1])


@dataclass
class Told:
    """What the writer said before it was killed."""

    registered: list[int] = field(default_factory=list)
    aliases: list[int] = field(default_factory=list)
    """Where `production` was pointed, in order."""
    working: str = "starting"
    """What it was doing."""
    aiming: int | None = None
    """Where it was about to point the alias."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    drawn = random.Random(arguments.seed)
    during: Counter[str] = Counter()
    broken: list[str] = []
    for first in range(0, arguments.kills, KILLS_OF_A_REGISTRY):
        with tempfile.TemporaryDirectory() as home:
            registry = Registry(Path(home) / "registry", Path(home) / "keys")
            alias: int | None = None
            for kill in range(first, min(first + KILLS_OF_A_REGISTRY, arguments.kills)):
                told = write_until_killed(registry, Path(home), drawn.uniform(0, LATEST_S))
                during[told.working] += 1
                try:
                    alias = check(registry, told, alias, Path(home))
                except (RegistryError, OSError, AssertionError) as error:
                    broken.append(f"kill {kill}, while {told.working}: {type(error).__name__}: {error}")
    print(f"{arguments.kills} kills, {len(broken)} broken states")
    print("killed while " + ", ".join(f"{what}: {count}" for what, count in during.most_common()))
    for line in broken:
        print(line)
    return 1 if broken else 0


def write_until_killed(registry: Registry, home: Path, seconds: float) -> Told:
    """Let another process write for so long."""
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        try:
            for said in write(registry, home):
                os.write(writing, said.encode() + b"\n")
        finally:
            os._exit(1)  # it writes without end: this is a failure of its own
    os.close(writing)
    select.select([reading], [], [])  # it has begun
    time.sleep(seconds)
    os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    with os.fdopen(reading) as pipe:
        told = read(pipe.read().splitlines())
    assert os.WIFSIGNALED(status), f"the writer failed while {told.working}"
    return told


def write(registry: Registry, home: Path) -> Iterator[str]:
    """Write without end; say what is begun, and what is done."""
    for round_ in itertools.count():
        folder = make_folder(home / f"made-{os.getpid()}-{round_}")
        yield "begin registering"
        checkpoint = registry.register(folder, NAME, DRAFT)
        version = checkpoint.manifest.version
        yield f"registered {version}"
        yield f"begin promoting {version}"
        registry.promote(NAME, version)
        yield f"pointed {version}"
        yield "begin storing-a-reference"
        registry.set_drift_reference(checkpoint, _reference(round_))
        previous = registry.aliases(NAME)["production"].previous
        if round_ % 2 and previous:
            yield f"begin rolling-back {previous[-1]}"
            yield f"pointed {registry.rollback(NAME).version}"


def read(lines: list[str]) -> Told:
    """What the lines of a writer say."""
    told = Told()
    for word, *rest in (line.split() for line in lines):
        if word == "begin":
            told.working, told.aiming = rest[0], int(rest[1]) if len(rest) > 1 else None
        elif word == "registered":
            told.registered.append(int(rest[0]))
        else:
            told.aliases.append(int(rest[0]))
            told.aiming = None
    return told


def check(registry: Registry, told: Told, alias: int | None, home: Path) -> int:
    """Read all, then write on; returns where the alias points. Raises RegistryError or AssertionError."""
    assert not registry.unreadable(), str(registry.unreadable()[0])
    for checkpoint in registry.list():
        registry.verify(checkpoint)
    versions = [checkpoint.manifest.version for checkpoint in registry.list()]
    assert versions == list(range(1, len(versions) + 1)), f"the versions are {versions}"
    assert set(told.registered) <= set(versions), f"{told.registered} were registered, there are {versions}"
    if versions:
        state = registry.aliases(NAME).get("production")
        now = state.version if state else None
        allowed = {told.aliases[-1] if told.aliases else alias, told.aiming or alias}
        assert now in allowed or now == told.aiming, f"the alias points at {now}, not at one of {allowed}"
        assert now is None or now in versions
        registry.resolve(NAME)
    added = registry.register(make_folder(home / "next"), NAME, DRAFT)
    assert added.manifest.version == len(versions) + 1
    registry.verify(added)
    return registry.promote(NAME, added.manifest.version).version


def make_folder(folder: Path) -> Path:
    """A checkpoint's files, each a little different."""
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text(f'{{"made": "{folder.name}"}}')
    (folder / "model.safetensors").write_bytes(os.urandom(20_000))
    (folder / "sub" / "more.txt").write_text("more")
    return folder


def _reference(round_: int) -> DriftReference:
    return DriftReference(
        prompt_tokens=_LENGTHS, completion_tokens=_LENGTHS, refusal_rate=0, guard_hit_rate=0, samples=round_
    )


if __name__ == "__main__":
    sys.exit(main())
