"""Safetensors read and written one tensor at a time: memory holds a tensor, whatever the model's size.

The format is eight bytes with the header's length, a JSON header that says each tensor's type, shape and place, and
the tensors (https://github.com/huggingface/safetensors#format). Since all shapes are known beforehand, the header can
be written first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from training.errors import SourceError

# Of each file; hubs and engines take several.
SHARD_BYTES = 4 * 2**30

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class TensorLayout(NamedTuple):
    """What the header says of a tensor."""

    dtype: str
    """As the format writes it: BF16, F32 …"""
    shape: tuple[int, ...]

    @property
    def torch_dtype(self) -> torch.dtype:
        return _DTYPES[self.dtype]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * int(self.torch_dtype.itemsize)


class TensorFolder:
    """The weights of a model's folder."""

    def __init__(self, folder: Path, called: str) -> None:
        """`called` is what errors call the model. Raises SourceError where there are no usable safetensors."""
        self._files: dict[str, Any] = {}
        self.layout: dict[str, TensorLayout] = {}
        """Of every tensor, in the files' order."""
        try:
            for path in _weight_files(folder):
                self._open(path, called)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise SourceError(f"{called} has no usable safetensors: {str(error).splitlines()[0]}") from None

    def _open(self, path: Path, called: str) -> None:
        file: Any = safe_open(path, framework="pt")
        for name in file.keys():  # noqa: SIM118 - no mapping
            part = file.get_slice(name)
            layout = TensorLayout(part.get_dtype(), tuple(part.get_shape()))
            if layout.dtype not in _DTYPES:
                raise SourceError(f"{called}: {name} has the unsupported type {layout.dtype}")
            self.layout[name] = layout
            self._files[name] = file

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def _weight_files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if not index.exists():
        return [folder / _SINGLE]
    names = dict.fromkeys(json.loads(index.read_bytes())["weight_map"].values())
    return [folder / str(name) for name in names]


def write_tensors(
    folder: Path,
    layouts: Mapping[str, TensorLayout],
    tensor_of: Callable[[str], torch.Tensor],
    on_progress: Callable[[int, int], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the tensors that `tensor_of` makes, in order; with an index where they need several files."""
    shards = _shards(layouts, shard_bytes)
    names = [_SINGLE] if len(shards) == 1 else [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
    ]  # fmt: skip
    done, total = 0, len(layouts)
    for file_name, shard in zip(names, shards, strict=True):
        with (folder / file_name).open("wb") as file:
            file.write(_header(shard))
            for name, layout in shard.items():
                tensor = tensor_of(name).to(layout.torch_dtype).contiguous()
                assert tuple(tensor.shape) == layout.shape, name
                file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
    if len(shards) > 1:
        places = {name: file_name for file_name, shard in zip(names, shards, strict=True) for name in shard}
        size = sum(layout.size for layout in layouts.values())
        (folder / _INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=2))


def _shards(layouts: Mapping[str, TensorLayout], shard_bytes: int) -> list[dict[str, TensorLayout]]:
    shards: list[dict[str, TensorLayout]] = [{}]
    filled = 0
    for name, layout in layouts.items():
        if shards[-1] and filled + layout.size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = layout
        filled += layout.size
    return shards


def _header(layouts: Mapping[str, TensorLayout]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, layout in layouts.items():
        header[name] = {"dtype": layout.dtype, "shape": layout.shape, "data_offsets": [start, start + layout.size]}
        start += layout.size
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)  # so that the tensors are aligned
    return len(content).to_bytes(8, "little") + content
