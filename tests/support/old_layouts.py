"""Checkpoints as AutoGPTQ and AutoAWQ wrote them: packed here by the layouts that their files have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

GROUP = 32
# Where AutoAWQ puts the eight values of a word.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

# The files in which they once said how they had quantized.
GPTQ_FILE = {
    "bits": 4, "group_size": GROUP, "damp_percent": 0.01, "desc_act": False, "static_groups": False, "sym": True,
    "true_sequential": True, "model_name_or_path": None, "model_file_base_name": "model",
}  # fmt: skip
AWQ_FILE = {"zero_point": True, "q_group_size": GROUP, "w_bit": 4, "version": "GEMM"}


def write_old(source: Path, target: Path, method: Literal["gptq", "awq"], **changes: Any) -> None:
    """Round a model's linear layers to the nearest of 16 values and write them in a method's old layout."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("manifest.*", "*.safetensors"))
    stored = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        module, _, part = name.rpartition(".")
        if part == "weight" and module.endswith("_proj"):
            packed = _gptq(tensor.T.float()) if method == "gptq" else _awq(tensor.T.float())
            stored |= {f"{module}.{key}": value.contiguous() for key, value in packed.items()}
        else:
            stored[name] = tensor.half()
    file, facts = ("quantize_config.json", GPTQ_FILE) if method == "gptq" else ("quant_config.json", AWQ_FILE)
    name = f"gptq_model-4bit-{GROUP}g" if method == "gptq" else "model"
    save_file(stored, target / f"{name}.safetensors", {"format": "pt"})
    (target / file).write_text(json.dumps(facts | changes))


def unpacked(tensors: dict[str, torch.Tensor], method: Literal["gptq", "awq"]) -> torch.Tensor:
    """The weights that packed ones stand for, (inputs, outputs)."""
    zeros, scales = _columns(tensors["qzeros"], method), tensors["scales"].float()
    if method == "gptq":
        values, zeros = _columns(tensors["qweight"].T.contiguous(), method).T, zeros + 1  # AutoGPTQ stores one less
    else:
        values = _columns(tensors["qweight"], method)
    groups = values.unflatten(0, (-1, GROUP))
    return ((groups - zeros[:, None]) * scales[:, None]).flatten(0, 1)


def _gptq(weight_IO: torch.Tensor) -> dict[str, torch.Tensor]:
    groups = weight_IO.unflatten(0, (-1, GROUP))
    scales = (groups.abs().amax(1) / 7.5).half()
    values = (groups / scales[:, None].float() + 8).round().clamp(0, 15).flatten(0, 1).int()
    return {
        "qweight": _pack(values.T.contiguous(), range(8)).T,
        "qzeros": _pack(torch.full(scales.shape, 7, dtype=torch.int32), range(8)),
        "scales": scales,
        "g_idx": (torch.arange(len(weight_IO)) // GROUP).int(),
    }


def _awq(weight_IO: torch.Tensor) -> dict[str, torch.Tensor]:
    groups = weight_IO.unflatten(0, (-1, GROUP))
    low, high = groups.amin(1).clamp_max(0), groups.amax(1).clamp_min(0)
    scales = ((high - low) / 15).half()
    zeros = (-low / scales.float()).round()
    values = (groups / scales[:, None].float() + zeros[:, None]).round().clamp(0, 15).flatten(0, 1).int()
    return {"qweight": _pack(values, AWQ_ORDER), "qzeros": _pack(zeros.int(), AWQ_ORDER), "scales": scales}


def _pack(values: torch.Tensor, order: Any) -> torch.Tensor:
    """Eight columns in a word of 32 bits."""
    eights = values.unflatten(1, (-1, 8))[..., list(order)]
    return (eights << 4 * torch.arange(8, dtype=torch.int32)).sum(-1, dtype=torch.int32)


def _columns(words: torch.Tensor, method: str) -> torch.Tensor:
    values = (words[..., None] >> 4 * torch.arange(8, dtype=torch.int32)) & 15
    order = list(AWQ_ORDER) if method == "awq" else list(range(8))
    return torch.empty_like(values).index_copy_(-1, torch.tensor(order), values).flatten(1)
