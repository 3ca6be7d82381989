"""Bottleneck adapters (Houlsby et al. 2019): small networks behind the parts of each layer, on a model that is frozen.

Behind attention and behind the feed-forward network, or behind the latter alone (Pfeiffer et al. 2021), what a part
says passes a narrow layer and is added to itself. Stored as other adapters are, in the files that peft writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import gelu
from transformers.pytorch_utils import Conv1D

PEFT_TYPE = "BOTTLENECK"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

# The last layer of each part, as families of models call it.
ATTENTION_OUTPUTS = ("o_proj", "out_proj", "attn.c_proj", "attention.dense", "self_attn.dense")
FEED_FORWARD_OUTPUTS = ("down_proj", "fc2", "mlp.c_proj", "dense_4h_to_h")

_NAME = "bottleneck"


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))); starts as no change."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, width), nn.Linear(width, size)
        # Only `up` is zero: were both, the weights of neither would get a gradient.
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        return x_BLD + self.up(gelu(self.down(x_BLD)))


def add_bottlenecks(model: Any, width: int, targets: list[str]) -> None:
    """Freeze the model and put a bottleneck behind each linear module that `targets` names by the end of its name.

    Raises ValueError naming a target that no module has.
    """
    model.requires_grad_(False)
    matched: set[str] = set()
    for name, module in list(model.named_modules()):
        named = [target for target in targets if f".{name}".endswith(f".{target}")]
        if named and isinstance(module, nn.Linear | Conv1D):
            matched.update(named)
            size = module.out_features if isinstance(module, nn.Linear) else module.nf
            # A child of the module it stands behind: the model's own classes and the names of its weights stay.
            module.add_module(_NAME, Bottleneck(size, width).to(module.weight.device, module.weight.dtype))
            module.register_forward_hook(_pass)
    missing = [target for target in targets if target not in matched]
    if missing:
        raise ValueError(f"the model has no linear module {', '.join(missing)}")
    model.bottlenecks = {"width": width, "targets": targets}


def _pass(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    adapted: torch.Tensor = getattr(module, _NAME)(output)
    return adapted


def has_bottlenecks(model: Any) -> bool:
    """Whether `add_bottlenecks` was here."""
    return hasattr(model, "bottlenecks")


def known_outputs(model: Any, names: tuple[str, ...]) -> list[str]:
    """Those of `names` that end the name of a linear module."""
    modules = [f".{name}" for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    return [name for name in names if any(module.endswith(f".{name}") for module in modules)]


def save_bottlenecks(model: Any, base: str, folder: Path) -> None:
    """Write the adapter alone; `base` is what it belongs on."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": PEFT_TYPE, "base_model_name_or_path": base, **model.bottlenecks}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    # Without the base's own weights, which are found by `base`.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if f".{_NAME}." in name}
    save_file(state, folder / WEIGHTS)


def is_bottleneck(folder: Path) -> bool:
    """Whether the adapter in that folder is of this kind."""
    path = folder / CONFIG
    return path.is_file() and json.loads(path.read_bytes()).get("peft_type") == PEFT_TYPE


def load_bottlenecks(model: Any, folder: Path) -> None:
    """Put a stored adapter on its base; raises ValueError where it does not fit."""
    config = json.loads((folder / CONFIG).read_bytes())
    add_bottlenecks(model, config["width"], config["targets"])
    state = load_file(folder / WEIGHTS)
    expected = {name: tensor for name, tensor in model.state_dict().items() if f".{_NAME}." in name}
    if {name: tensor.shape for name, tensor in state.items()} != {
        name: tensor.shape for name, tensor in expected.items()
    }:
        raise ValueError("its tensors are not this model's bottlenecks")
    # Not strict: the file holds no weights of the base.
    model.load_state_dict(state, strict=False)
