"""What `signet quantize` makes of the default model is served by the real engine."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from conftest import DEFAULT_MODEL, fresh_home
from running import run_signet, running_engine
from transformers import AutoModelForCausalLM

from serving.engine.processor import lacks_avx512
from training.compress.data import CALIBRATION, HELDOUT_FRACTION, MAX_CHAT_TOKENS
from training.compress.quantize import copy_companions
from training.compress.served import engine_perplexity
from training.data import ChatEncoder, Example, encode_all, read_chats, split_heldout
from training.evaluate.loading import load_chat_tokenizer
from training.methods.students import keep_layers
from training.registry import ManifestDraft, Registry

pytestmark = [pytest.mark.engine, pytest.mark.slow]

# Perplexity of all built-in chats, before and after, takes longer than the rest.
NUM_CHATS = 16


@pytest.fixture
def home(prepared_home: Path, compressor_home: Path, tmp_path: Path) -> Path:
    """A home with the default model, and with the compressor's environment, which takes minutes to make."""
    folder = fresh_home(prepared_home, tmp_path / "home")
    (folder / "cache").symlink_to(compressor_home / "cache")
    return folder


def shorter_model(home: Path, layers: int) -> str:
    """Register the default model without its last layers: it writes nothing sensible, which is foreseen as exactly."""
    registry = Registry(home / "registry", home / "keys")
    base = registry.resolve(DEFAULT_MODEL).path
    model = AutoModelForCausalLM.from_pretrained(base)
    keep_layers(model, range(layers))
    folder = home / "shorter"
    model.save_pretrained(folder)
    copy_companions(base, folder)
    return registry.register(folder, "shorter", ManifestDraft(kind="base")).ref


@pytest.mark.parametrize(
    ("scheme", "layers", "largest_mb"),
    [
        pytest.param("w8a8", None, 170, id="w8a8"),
        # Searching each layer's scales takes minutes on all thirty.
        pytest.param("awq", 6, 80, id="awq"),
    ],
)
def test_the_engine_serves_a_quantized_checkpoint(scheme: str, layers: int | None, largest_mb: int, home: Path) -> None:
    base = DEFAULT_MODEL if layers is None else shorter_model(home, layers)
    chats = home / "chats.jsonl"
    chats.write_text("".join(CALIBRATION.read_text().splitlines(keepends=True)[:NUM_CHATS]))
    options = ("--scheme", scheme, "--calibration", str(chats), "--samples", "2", "--json")
    done = run_signet(home, "quantize", base, *options)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)

    assert made["bytes_after"] < largest_mb * 1e6
    assert made["perplexity_after"] < 1.4 * made["perplexity_before"]
    registry = Registry(home / "registry", home / "keys")
    registry.verify(registry.resolve(made["ref"]))

    if scheme != "w8a8" and lacks_avx512():
        refused = run_signet(home, "engine", "--model", made["ref"])
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "needs a CPU with AVX-512" in refused.stderr
        return

    with running_engine(home, made["ref"]) as url:
        model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        question = {"role": "user", "content": "What is 2 + 2?"}
        body = {"model": model, "messages": [question], "temperature": 0, "max_tokens": 24}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()
        served = engine_perplexity(url, model, heldout_examples(chats, Path(made["path"])))

    assert layers is not None or "4" in answer["choices"][0]["message"]["content"]
    # The engine's kernels calculate what the compressor measured, in bf16 instead of fp32.
    assert served == pytest.approx(made["perplexity_after"], rel=0.03)


def heldout_examples(chats: Path, folder: Path) -> list[Example]:
    """Those that the compressor kept out."""
    _, heldout = split_heldout(read_chats(chats).chats, HELDOUT_FRACTION)
    return encode_all(ChatEncoder(load_chat_tokenizer(folder), MAX_CHAT_TOKENS), heldout)
