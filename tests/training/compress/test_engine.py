"""What `signet quantize` makes of the default model is served by the real engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import DEFAULT_MODEL, fresh_home
from running import answers_ok, free_port, run_signet, signet_environment, wait_until


@pytest.fixture
def home(prepared_home: Path, compressor_home: Path, tmp_path: Path) -> Path:
    """A home with the default model, and with the compressor's environment, which takes minutes to make."""
    folder = fresh_home(prepared_home, tmp_path / "home")
    (folder / "cache").symlink_to(compressor_home / "cache")
    return folder


@contextmanager
def engine(home: Path, ref: str) -> Iterator[str]:
    """A running `signet engine`; yields its URL."""
    port = free_port()
    log = (home / "engine-test.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "signet", "engine", "--model", ref, "--port", str(port)],
        env=signet_environment(home),
        cwd=home,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_until(lambda: answers_ok(f"http://127.0.0.1:{port}/health"), 300, f"engine ready; see {log.name}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize(("scheme", "largest_mb"), [("w8a8", 170), ("w4a16-gptq", 120)])
def test_the_engine_serves_a_quantized_checkpoint(scheme: str, largest_mb: int, home: Path) -> None:
    done = run_signet(home, "quantize", DEFAULT_MODEL, "--scheme", scheme, "--samples", "4", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)

    assert made["bytes_after"] < largest_mb * 1e6
    assert made["perplexity_after"] < 1.25 * made["perplexity_before"]
    verified = run_signet(home, "registry", "verify", made["ref"])
    assert verified.returncode == 0, verified.stderr

    question = {"role": "user", "content": "What is the capital of France?"}
    with engine(home, made["ref"]) as url:
        model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        body = {"model": model, "messages": [question], "temperature": 0, "max_tokens": 24}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()

    assert "Paris" in answer["choices"][0]["message"]["content"]
