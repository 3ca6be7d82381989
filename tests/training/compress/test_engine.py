"""What `signet quantize` makes of the default model is served by the real engine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import httpx
import pytest
from conftest import DEFAULT_MODEL, fresh_home
from running import run_signet, running_engine
from transformers import AutoModelForCausalLM

from serving.engine.processor import lacks_avx512
from training.compress.data import CALIBRATION, HELDOUT_FRACTION, MAX_CHAT_TOKENS
from training.compress.quantize import copy_companions
from training.data import IGNORED, ChatEncoder, Example, encode_all, read_chats, split_heldout
from training.evaluate.loading import load_chat_tokenizer
from training.registry import ManifestDraft, Registry

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def home(prepared_home: Path, compressor_home: Path, tmp_path: Path) -> Path:
    """A home with the default model, and with the compressor's environment, which takes minutes to make."""
    folder = fresh_home(prepared_home, tmp_path / "home")
    (folder / "cache").symlink_to(compressor_home / "cache")
    return folder


def keep_layers(home: Path, number: int) -> str:
    """Register the default model without its last layers: it writes nothing sensible, which is foreseen as exactly."""
    registry = Registry(home / "registry", home / "keys")
    base = registry.resolve(DEFAULT_MODEL).path
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers = model.model.layers[:number]
    model.config.num_hidden_layers = number
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
    base = DEFAULT_MODEL if layers is None else keep_layers(home, layers)
    done = run_signet(home, "quantize", base, "--scheme", scheme, "--samples", "4", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)

    assert made["bytes_after"] < largest_mb * 1e6
    assert made["perplexity_after"] < 1.4 * made["perplexity_before"]
    verified = run_signet(home, "registry", "verify", made["ref"])
    assert verified.returncode == 0, verified.stderr

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
        served = engine_perplexity(url, model, heldout_examples(Path(made["path"])))

    assert layers is not None or "4" in answer["choices"][0]["message"]["content"]
    # The engine's kernels calculate what the compressor measured, in bf16 instead of fp32.
    assert served == pytest.approx(made["perplexity_after"], rel=0.03)


def heldout_examples(folder: Path) -> list[Example]:
    _, heldout = split_heldout(read_chats(CALIBRATION).chats, HELDOUT_FRACTION)
    return encode_all(ChatEncoder(load_chat_tokenizer(folder), MAX_CHAT_TOKENS), heldout)


def engine_perplexity(url: str, model: str, examples: list[Example]) -> float:
    """Perplexity of the assistant's tokens as the engine sees them."""
    losses = []
    for example in examples:
        body = {"model": model, "prompt": example.input_ids, "max_tokens": 1, "prompt_logprobs": 0}
        choice = httpx.post(f"{url}/v1/completions", json=body, timeout=120).json()["choices"][0]
        for token, label, found in zip(example.input_ids, example.labels, choice["prompt_logprobs"], strict=True):
            if found is not None and label != IGNORED:
                losses.append(-found[str(token)]["logprob"])
    return math.exp(sum(losses) / len(losses))
