"""Models of our own making in the real engine: it writes, token for token, what PyTorch writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from running import run_signet, running_engine

from training.model.decoding import generate
from training.model.saving import load_decoder

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TEXT = "\n".join(f"{n} times {m} is {n * m}, and {m} times {n} is {m * n}." for n in range(1, 40) for m in range(1, 20))
RECIPE = """\
method: pretrain
name: own
data: {train: sums.txt, block: 64}
model: {depth: 2, width: 128, heads: 4, kv_heads: 2, window: 64, context: 256}
steps: 60
batch_size: 12
optimizer: {learning_rate: 0.004}
"""
PROMPTS = [TEXT[start : start + 5 + start % 40] for start in range(0, 20 * 700, 700)]
TOKENS = 80
NEAR = 1e-3
"""Where the two best logits are nearer than this, another order of adding numbers may turn them round."""


@pytest.mark.parametrize("experts", [0, 4], ids=["dense", "experts"])
def test_the_engine_writes_what_pytorch_writes(experts: int, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "sums.txt").write_text(TEXT)
    (tmp_path / "own.yaml").write_text(RECIPE)
    done = run_signet(home, "train", str(tmp_path / "own.yaml"), "--json", "--set", f"model.experts={experts}")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)

    with running_engine(home, made["ref"]) as url:
        body = {"model": "own", "prompt": PROMPTS, "temperature": 0, "max_tokens": TOKENS, "return_token_ids": True}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=300).json()

    model = load_decoder(Path(made["path"])).eval()
    for prompt, choice in zip(PROMPTS, answer["choices"], strict=True):
        assert len(choice["prompt_token_ids"]) == len(prompt)
        assert_same(model, choice["prompt_token_ids"], choice["token_ids"])


def assert_same(model: Any, prompt: list[int], written: list[int]) -> None:
    ours = generate(model, torch.tensor([prompt]), TOKENS, end=0)[0, len(prompt) :].tolist()
    for at, (token, other) in enumerate(zip(ours, written, strict=False)):
        if token != other:
            with torch.no_grad():
                best = model(torch.tensor([prompt + ours[:at]]))[0, -1].topk(2)
            assert other in best.indices.tolist()
            assert float(best.values[0] - best.values[1]) < NEAR
            return
    assert len(ours) == len(written)
