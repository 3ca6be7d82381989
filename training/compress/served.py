"""What the real engine makes of a checkpoint: tokens per second of many answers at once, and perplexity."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.processes.child import Child
from training.compress.errors import EngineFailed
from training.data import IGNORED, Example
from training.errors import TrainingError

ENGINE = (sys.executable, "-m", "signet", "engine")

STREAMS = 16
TOKENS = 64
"""Of each answer."""
ROUNDS = 3

READY_SECONDS = 600
_GRACE_SECONDS = 30
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 600


def engine_is_installed() -> bool:
    """Whether this Python has one."""
    return importlib.util.find_spec("vllm") is not None


@dataclass(frozen=True)
class Served:
    """A checkpoint as the engine serves it."""

    tokens_per_s: float
    """At `STREAMS` streams: the median of the rounds."""
    slowest: float
    fastest: float
    perplexity: dict[str, float]
    """By set of texts, from the log-probabilities that the engine returns."""

    def __str__(self) -> str:
        return f"{self.tokens_per_s:.0f} ({self.slowest:.0f} to {self.fastest:.0f})"

    def figures(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "tokens_per_s": self.tokens_per_s,
            "tokens_per_s_low": self.slowest,
            "tokens_per_s_high": self.fastest,
            "engine_perplexity": self.perplexity,
        }


def serve(ref: str, sets: Mapping[str, Sequence[Example]], home: Path, log: Path) -> Served:
    """Start `signet engine` on a checkpoint, measure, after one unmeasured round, and stop it.

    Raises EngineFailed where the engine cannot serve it.
    """
    name = ref.partition("@")[0]
    with _engine(ref, home, log) as url, ThreadPoolExecutor(STREAMS) as pool:
        speeds = []
        for _ in range(ROUNDS + 1):
            started = time.monotonic()
            counts = list(pool.map(lambda number: _answer(url, name, number), range(STREAMS)))
            speeds.append(sum(counts) / (time.monotonic() - started))
        measured = speeds[1:]
        perplexity = {each: engine_perplexity(url, name, examples) for each, examples in sets.items()}
    return Served(statistics.median(measured), min(measured), max(measured), perplexity)


def engine_perplexity(url: str, model: str, examples: Sequence[Example]) -> float:
    """Perplexity of the labelled tokens as a running engine sees them; raises EngineFailed."""
    from training.evaluate.engine_agreement import token_logprobs  # imports torch

    losses = []
    for example in examples:
        try:
            logprobs = token_logprobs(url, None, model, example.input_ids)
        except TrainingError as error:
            raise EngineFailed(str(error)) from None
        losses += [-each for each, label in zip(logprobs, example.labels[1:], strict=True) if label != IGNORED]
    return math.exp(sum(losses) / len(losses))


@contextmanager
def _engine(ref: str, home: Path, log: Path) -> Iterator[str]:
    """A running engine's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [*ENGINE, "--model", ref, "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        engine = Child(command, {**os.environ, "SIGNET_HOME": str(home)}, output, _GRACE_SECONDS)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _is_ready(url):
            if engine.poll() is not None or time.monotonic() > deadline:
                said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
                raise EngineFailed(f"the engine does not serve {ref}: {said[-1] if said else 'no output'}")
            time.sleep(_POLL_SECONDS)
        yield url
    finally:
        engine.terminate()
        engine.wait(_GRACE_SECONDS)
        engine.kill()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 (our own)
            return bool(answer.status == 200)
    except OSError:
        return False


def _answer(url: str, model: str, number: int) -> int:
    """Ask for an answer of exactly so many tokens (`ignore_eos`, vLLM's own field); returns how many came."""
    body = {
        "model": model,
        "prompt": f"Chapter {number + 1}. It was a quiet morning in the town, and",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
    }
    data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/completions", data, headers)  # noqa: S310 (our own)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 (our own)
            return int(json.load(answer)["usage"]["completion_tokens"])
    except (OSError, ValueError, KeyError) as error:
        raise EngineFailed(f"the engine did not answer: {error}") from None
