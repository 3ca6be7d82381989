"""What `signet quantize` makes of the default model is served by the real engine."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from serving.engine.processor import lacks_avx512
from tests.support.running import run_signet, running_engine
from tests.support.stack import DEFAULT_MODEL, fresh_home
from training.compress.data import CALIBRATION, HELDOUT_FRACTION, MAX_CHAT_TOKENS
from training.compress.served import engine_perplexity
from training.data import ChatEncoder, Example, encode_all, read_chats, split_heldout
from training.evaluate.loading import load_chat_tokenizer
from training.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.slow]

# Perplexity of all built-in chats, before and after, takes longer than the rest.
NUM_CHATS = 16


@pytest.fixture
def home(prepared_home: Path, compressor_home: Path, tmp_path: Path) -> Path:
    """A home with the default model, and with the compressor's environment, which takes minutes to make."""
    folder = fresh_home(prepared_home, tmp_path / "home")
    (folder / "cache").symlink_to(compressor_home / "cache")
    return folder


def test_the_engine_serves_a_quantized_checkpoint(home: Path) -> None:
    # Both kernels in one engine: 4 bits with zero points, as GPTQ and AWQ store them too, and 8 bits. Rounding is what
    # thirty layers take least time for.
    scheme = "w8a8" if lacks_avx512() else "rtn-asym-mixed"
    chats = home / "chats.jsonl"
    chats.write_text("".join(CALIBRATION.read_text().splitlines(keepends=True)[:NUM_CHATS]))
    options = ("--scheme", scheme, "--calibration", str(chats), "--samples", "2", "--json")
    done = run_signet(home, "quantize", DEFAULT_MODEL, *options)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)

    assert made["bytes_after"] < 170e6
    assert made["perplexity_after"] < 1.4 * made["perplexity_before"]
    registry = Registry(home / "registry", home / "keys")
    registry.verify(registry.resolve(made["ref"]))

    with running_engine(home, made["ref"]) as url:
        model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        question = {"role": "user", "content": "What is 2 + 2?"}
        body = {"model": model, "messages": [question], "temperature": 0, "max_tokens": 24}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()
        served = engine_perplexity(url, model, heldout_examples(chats, Path(made["path"])))

    assert "4" in answer["choices"][0]["message"]["content"]
    # The engine's kernels calculate what the compressor measured, in bf16 instead of fp32.
    assert served == pytest.approx(made["perplexity_after"], rel=0.03)


def heldout_examples(chats: Path, folder: Path) -> list[Example]:
    """Those that the compressor kept out."""
    _, heldout = split_heldout(read_chats(chats).items, HELDOUT_FRACTION)
    return encode_all(ChatEncoder(load_chat_tokenizer(folder), MAX_CHAT_TOKENS), heldout)
