"""The layouts of AutoGPTQ and AutoAWQ: both are archived, and their checkpoints are still about.

Engines read how a model was quantized from `quantization_config` in `config.json`. Older checkpoints say so in a file
of their own, in names that changed since. What vLLM 0.32 reads of them is in its `quantization/auto_gptq.py` and
`auto_awq.py`; what it does not is told before anything is copied.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from training.errors import SourceError

_ANEW = "make one anew from the original with `signet quantize`"


def quantization_of(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a model is quantized, as `config.json` is to say it; None for one that is not. Raises SourceError."""
    stated = config.get("quantization_config")
    if stated is not None:
        if not isinstance(stated, dict):
            raise SourceError(f"{folder / 'config.json'}: quantization_config is not a JSON object")
        return stated
    if (folder / "quantize_config.json").exists():  # AutoGPTQ's
        return {"quant_method": "gptq", **_read(folder / "quantize_config.json")}
    if (folder / "quant_config.json").exists():  # AutoAWQ's
        old = _read(folder / "quant_config.json")
        renamed = {"w_bit": "bits", "q_group_size": "group_size"}
        return {"quant_method": "awq", **{renamed.get(key, key): value for key, value in old.items()}}
    return None


def require_served(folder: Path, quantization: Mapping[str, Any], tensors: Collection[str]) -> None:
    """Raise SourceError for what no engine of ours reads; other formats than these two are for it to judge."""
    method = quantization.get("quant_method")
    if method not in ("gptq", "awq"):
        return
    if not any(name.endswith(".qweight") for name in tensors):
        raise SourceError(
            f"{folder} says that it is quantized by {method}, and has no weights of that kind (*.qweight)"
        )
    bits, group_size = quantization.get("bits"), quantization.get("group_size")
    if not isinstance(bits, int) or not isinstance(group_size, int):
        raise SourceError(f"{folder}: its quantization states no bits and group_size")
    why = _unserved_gptq(quantization) if method == "gptq" else _unserved_awq(quantization)
    if why is not None:
        raise SourceError(f"{folder}: {why}: {_ANEW}")


def _unserved_gptq(quantization: Mapping[str, Any]) -> str | None:
    if quantization["bits"] not in (4, 8):
        return f"vLLM reads GPTQ of 4 and 8 bits, not of {quantization['bits']}"
    if not quantization.get("sym", True):
        return "vLLM reads no GPTQ with zero points (sym: false)"
    if quantization.get("desc_act") and quantization["group_size"] != -1:
        return "vLLM no longer reads GPTQ whose groups follow the order of activations (desc_act: true)"
    return None


def _unserved_awq(quantization: Mapping[str, Any]) -> str | None:
    if quantization["bits"] != 4:
        return f"vLLM reads AWQ of 4 bits, not of {quantization['bits']}"
    # AutoAWQ's default, which early checkpoints do not state.
    version = str(quantization.get("version", "gemm")).lower()
    return None if version == "gemm" else f"vLLM reads AWQ in the layout gemm, not in {version}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds no JSON object")
    return content
