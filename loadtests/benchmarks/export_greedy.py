"""Exports a checkpoint and compares greedy answers with PyTorch's.

    python -m loadtests.benchmarks.export_greedy REF --to onnx|web

Twenty prompts, chats where the model has a template, go on with 16 tokens each. Two runtimes may part where the two
best logits are nearer than 1e-3.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from serving import DEFAULT_MODEL
from serving.settings import load_settings
from training.evaluate import resolve_source
from training.evaluate.loading import load_model, load_tokenizer
from training.export.chromium import ask_in_chromium
from training.export.greedy import TEXTS, Expected, expected_answers, greedy
from training.registry import Registry


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ref", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--to", choices=["onnx", "web"], default="onnx")
    parser.add_argument("--tokens", type=int, default=16)
    arguments = parser.parse_args()
    home = load_settings().home
    source = resolve_source(arguments.ref, Registry(home / "registry", home / "keys"), False)
    expected = expected_answers(
        load_model(source, torch.float32).eval(), load_tokenizer(source.path), TEXTS, arguments.tokens
    )
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "export"
        command = [sys.executable, "-m", "signet", "export", arguments.ref, "--to", arguments.to, "--output", folder]
        subprocess.run(command, check=True)
        found = _onnx(folder, expected) if arguments.to == "onnx" else _web(folder, arguments.tokens)
    same = [each.agrees(*answer) for each, answer in zip(expected, found, strict=True)]
    exact = sum(each.tokens == tokens for each, (_, tokens) in zip(expected, found, strict=True))
    print(f"{arguments.ref} as {arguments.to}: {sum(same)} of {len(same)} as in PyTorch, {exact} to the last token")
    return 0 if all(same) else 1


def _onnx(folder: Path, expected: Sequence[Expected]) -> list[tuple[list[int], list[int]]]:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def next_logits(ids: list[int]) -> torch.Tensor:
        input_ids = np.array([ids], np.int64)
        (logits,) = session.run(None, {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)})
        return torch.from_numpy(logits[0, -1])

    return [(answer.prompt, greedy(next_logits, answer.prompt, len(answer.tokens))[0]) for answer in expected]


def _web(folder: Path, count: int) -> list[tuple[list[int], list[int]]]:
    found = ask_in_chromium(folder, TEXTS, count, seconds=3600)
    return [(answer["prompt"], answer["tokens"]) for answer in found["answers"]]


if __name__ == "__main__":
    sys.exit(main())
