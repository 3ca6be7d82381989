"""How a peer is asked: {"mode", "texts", …} on standard input; what it says is the last line of standard output."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 900
_WARMED_BY = 10

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


def ask(python: str, peer: str, mode: str, texts: Sequence[Any], **more: Any) -> Answered:
    """Ask a peer about each text. Raises: PeerError."""
    done = subprocess.run(
        [python, "-m", f"loadtests.peers.{peer}"],
        input=json.dumps({"mode": mode, "texts": list(texts), **more}),
        capture_output=True,
        text=True,
        cwd=_REPOSITORY,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"{peer} {mode}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return Answered(**json.loads(done.stdout.splitlines()[-1]))


def serve(modes: Mapping[str, Mode], packages: Sequence[str]) -> None:
    """Be the peer: load, warm up, answer, and say which versions answered."""
    from importlib.metadata import version

    question = json.load(sys.stdin)
    answer = modes[question["mode"]](question)
    texts = question["texts"]
    for text in texts[:_WARMED_BY]:
        answer(text)
    started = time.process_time()
    said = [answer(text) for text in texts]
    seconds = time.process_time() - started
    print(json.dumps({"texts": said, "seconds": seconds, "versions": {name: version(name) for name in packages}}))
