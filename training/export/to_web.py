"""A folder that opens from any static file server and runs the model in the browser, on ONNX Runtime's WebAssembly.

A page, the model as ONNX, its tokenizer, and the JavaScript that reads both: nothing is loaded from another host.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from training.errors import TrainingError
from training.evaluate.loading import load_model, load_tokenizer
from training.evaluate.source import Source
from training.export import chromium
from training.export.folder import ExportError
from training.export.greedy import TEXTS, expected_answers
from training.export.to_onnx import FILE, write_onnx
from training.export.web_packages import copy_packages

PAGE = Path(__file__).parent / "web"
# Of the checks: enough to see that text, template and numbers are the same; a large model needs seconds a token.
CHECKED_TEXTS, CHECKED_TOKENS = 3, 4
CHECK_SECONDS = 600.0


def write_web(source: Source, folder: Path, cache: Path, show: bool) -> dict[str, JsonValue]:
    """Write it, and check it in headless Chromium where that is installed.

    Raises ExportError where the browser answers otherwise, TrainingError where a package is missing.
    """
    copy_packages(cache, folder / "lib")
    said = write_onnx(source, folder, show)
    if not (folder / "tokenizer.json").is_file():
        raise TrainingError(f"{source.identity.ref} has no tokenizer.json, which browsers read")
    for file in sorted(PAGE.iterdir()):
        shutil.copyfile(file, folder / file.name)
    model, tokenizer = load_model(source, torch.float32).eval(), load_tokenizer(source)
    (folder / "web.json").write_text(json.dumps(_facts(source, folder, model, tokenizer), ensure_ascii=False))
    return {**said, "checked_in_chromium": _check(folder, model, tokenizer)}


def _facts(source: Source, folder: Path, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What the page has to know beside the files that transformers writes."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    return {
        "checkpoint": source.identity.ref,
        "digest": source.identity.digest,
        "context": model.config.max_position_embeddings,
        "eos": [end for end in {*ends, tokenizer.eos_token_id} if end is not None],
        "chat_template": tokenizer.chat_template,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "external": [
            {"path": file.name, "bytes": file.stat().st_size}
            for file in sorted(folder.glob(f"{FILE}*"))
            if file.name != FILE
        ],
    }


def _check(folder: Path, model: Any, tokenizer: Any) -> bool:
    if chromium.find_chromium() is None:
        return False
    expected = expected_answers(model, tokenizer, TEXTS[:CHECKED_TEXTS], CHECKED_TOKENS)
    try:
        said = chromium.ask_in_chromium(folder, TEXTS[:CHECKED_TEXTS], CHECKED_TOKENS, CHECK_SECONDS)
    except TimeoutError as error:
        raise ExportError(f"web: {error}") from None
    if "error" in said:
        raise ExportError(f"web: Chromium cannot run it: {str(said['error']).splitlines()[0][:300]}")
    for expectation, answer in zip(expected, said["answers"], strict=True):
        if not expectation.agrees(answer["prompt"], answer["tokens"]):
            raise ExportError(f"web: Chromium answers differently to {expectation.text!r}")
    return True
