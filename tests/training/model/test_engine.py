"""Models of our own making in unmodified vLLM: it writes, token for token, what PyTorch writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from training.model.decoding import generate
from training.model.saving import load_decoder
from training.outcome import Outcome

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


# Both by one process, which reads vLLM once.
WRITE = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
prompts, tokens = json.loads(sys.argv[1]), int(sys.argv[2])
written = []
for folder in sys.argv[3:]:
    model = LLM(folder, enforce_eager=True, dtype="float32")
    outputs = model.generate(prompts, SamplingParams(temperature=0, max_tokens=tokens), use_tqdm=False)
    written.append([[output.prompt_token_ids, list(output.outputs[0].token_ids)] for output in outputs])
    del model
    cleanup_dist_env_and_memory()
print(json.dumps(written))
"""
IN_ONE_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture(scope="module")
def made(run_recipe: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A dense model, and one with experts."""
    work = tmp_path_factory.mktemp("own")
    (work / "sums.txt").write_text(TEXT)
    (work / "own.yaml").write_text(RECIPE)
    made = [run_recipe(work / "own.yaml", work / "home", f"model.experts={experts}") for experts in (0, 4)]
    return [outcome.checkpoint.path for outcome in made]


@pytest.fixture(scope="module")
def written(made: list[Path]) -> list[Any]:
    command = [sys.executable, "-c", WRITE, json.dumps(PROMPTS), str(TOKENS), *map(str, made)]
    done = subprocess.run(command, env=os.environ | IN_ONE_PROCESS, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("number", [0, 1], ids=["dense", "experts"])
def test_vllm_writes_what_pytorch_writes(number: int, made: list[Path], written: list[Any]) -> None:
    model = load_decoder(made[number]).eval()

    assert len(written[number]) == len(PROMPTS)
    for prompt, (prompt_ids, ids) in zip(PROMPTS, written[number], strict=True):
        assert len(prompt_ids) == len(prompt)
        assert_same(model, prompt_ids, ids)


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
