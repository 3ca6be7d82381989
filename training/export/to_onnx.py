"""ONNX: token ids and their mask in, logits out; in fp32, without a cache of keys and values.

Any runtime of ONNX can read it. It answers exactly as the checkpoint does, and slowly: each token reads the whole text
again. For speed take GGUF.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import nn

from training.errors import TrainingError
from training.evaluate.loading import load_model
from training.evaluate.source import Source
from training.export.folder import ExportError
from training.methods.adapters import copy_companions
from training.progress import track

FILE = "model.onnx"

# How far logits may lie from PyTorch's, of the largest: the same arithmetic in another order.
MOST_BY_ORDER = 1e-4
_SHAPES_TRIED = ((1, 7), (2, 12))


class _Logits(nn.Module):  # type: ignore[misc]  # torch has no types here
    """A language model with plain inputs and one output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits_BLV: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).logits
        return logits_BLV


def write_onnx(source: Source, folder: Path, show: bool) -> dict[str, JsonValue]:
    """Write the model and its tokenizer; checked in ONNX Runtime where that is installed.

    Raises ExportError where it answers otherwise, TrainingError where the packages are missing.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise TrainingError(f"{package} is not installed: pip install onnx onnxscript onnxruntime")
    model = load_model(source, torch.float32).eval()
    # One path for every length: the others choose by the mask's content, which a graph cannot.
    model.set_attn_implementation("eager")
    wrapped = _Logits(model).eval()
    example = _inputs(model, (2, 8))
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it names what it does not find of torchvision
    with track("Writing ONNX", show), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        torch.onnx.export(
            wrapped,
            tuple(example.values()),
            folder / FILE,
            dynamo=True,
            verbose=False,
            input_names=list(example),
            output_names=["logits"],
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
        )
    copy_companions(source.path, folder)
    return {"weights": "f32", "checked_in_onnxruntime": _check(wrapped, folder / FILE)}


def _check(model: nn.Module, path: Path) -> bool:
    """Whether ONNX Runtime is there to compare with; raises ExportError where it answers otherwise."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in _SHAPES_TRIED:
        inputs = _inputs(model.model, shape)
        (logits,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.inference_mode():
            expected = model(**inputs)
        apart = float((torch.from_numpy(logits) - expected).abs().max() / expected.abs().max())
        if not apart <= MOST_BY_ORDER:  # so is what is no number
            raise ExportError(f"onnx: ONNX Runtime answers differently: logits differ by {apart:.2g} of the largest")
    return True


def _inputs(model: Any, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Random tokens; the last row's last one is padding where there are several rows."""
    drawn = torch.Generator().manual_seed(0)
    ids_BL = torch.randint(0, model.config.vocab_size, shape, generator=drawn)
    mask_BL = torch.ones(shape, dtype=torch.long)
    if shape[0] > 1:
        mask_BL[-1, -1] = 0
    return {"input_ids": ids_BL, "attention_mask": mask_BL}
