"""How a peer is asked: questions in JSON, one a line, on its standard input; it answers in marked lines."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[4]
_WARMED_BY = 20
_ANSWER = "answer: "
"""Begins the lines that count: peers log to standard output too."""

Mode = Callable[[dict[str, Any]], Callable[[Any], Any]]
"""From the question to what answers one text of it."""


@dataclass(frozen=True)
class Answered:
    """What a peer said of each text, and the processor time that it took, without loading."""

    texts: list[Any]
    seconds: float
    versions: dict[str, str]


class PeerError(Exception):
    """A peer could not be asked."""


class Peer:
    """A peer's process: started once, since most of them take long to load."""

    def __init__(self, python: str, name: str) -> None:
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the peer)
        self._process = subprocess.Popen(
            [python, "-m", f"training.studies.guard.peers.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=_REPOSITORY,
        )

    def ask(self, mode: str, texts: Sequence[Any], **more: Any) -> Answered:
        """Ask about each text. Raises: PeerError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended: what it said to that follows
            print(json.dumps({"mode": mode, "texts": list(texts), **more}), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                said = json.loads(line.removeprefix(_ANSWER))
                if "error" in said:
                    raise PeerError(f"{self._name} {mode}: {said['error']}")
                return Answered(**said)
        self._errors.seek(0)
        raise PeerError(f"{self._name} {mode}: {(self._errors.read().strip().splitlines() or ['it ended'])[-1]}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def serve(modes: Mapping[str, Mode], packages: Sequence[str]) -> None:
    """Be the peer, for as long as there are questions."""
    for line in sys.stdin:
        question = json.loads(line)
        try:
            said = asdict(timed(modes[question["mode"]](question), question["texts"], packages))
        except Exception as error:  # whatever it is, the campaign goes on without this row
            said = {"error": f"{type(error).__name__}: {error}"}
        print(_ANSWER + json.dumps(said), flush=True)


def timed(answer: Callable[[Any], Any], texts: Sequence[Any], packages: Sequence[str] = ()) -> Answered:
    """What is answered to each text, after some to warm up, and the versions of the packages that answered."""
    from importlib.metadata import version

    for text in texts[:_WARMED_BY]:
        answer(text)
    started = time.process_time()
    said = [answer(text) for text in texts]
    return Answered(said, time.process_time() - started, {name: version(name) for name in packages})
