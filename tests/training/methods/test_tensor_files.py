from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.errors import SourceError
from training.methods.tensor_files import TensorFolder, TensorLayout, write_tensors


def test_tensors_are_read_and_written_one_by_one_in_several_files(tmp_path: Path) -> None:
    values = {
        "a": torch.randn(3, 5),
        "b.c": torch.randn(7).to(torch.bfloat16),
        "d": torch.tensor(4),
        "e": torch.ones(9),
    }
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
    layouts = {name: TensorLayout(names[value.dtype], tuple(value.shape)) for name, value in values.items()}

    write_tensors(tmp_path, layouts, values.__getitem__, shard_bytes=60)

    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    loaded = {name: value for file in files for name, value in load_file(tmp_path / file).items()}
    assert all(torch.equal(loaded[name], value) for name, value in values.items())
    again = TensorFolder(tmp_path, "it")
    assert again.layout == layouts
    assert all(torch.equal(again[name], value) for name, value in values.items())


def test_weights_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(SourceError, match=r"^it has no usable safetensors: [^\n]*$"):
        TensorFolder(tmp_path, "it")
