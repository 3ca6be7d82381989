"""What the CPU has decides what the engine computes with, and what it refuses to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.engine.errors import ModelRefused
from serving.engine.processor import dtype, lacks_avx512, loaded_bytes, require_kernels
from serving.engine.resolve import ModelSource
from serving.engine.settings import EngineSettings

CPU = EngineSettings(device="cpu")
INT4 = {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}, "format": "pack-quantized"}
INT8 = {"config_groups": {"group_0": {"weights": {"num_bits": 8}}}, "format": "int-quantized"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The description of an x86 without AVX-512."""
    return written(tmp_path / "old", "processor\t: 0\nflags\t\t: fpu sse2 avx avx2 f16c\n")


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """As Skylake and Cascade Lake are: AVX-512 without its BF16 part."""
    return written(tmp_path / "newer", "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512bw avx512_vnni\n")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return written(tmp_path / "new", "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512bw avx512_bf16\n")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def source(folder: Path, **config: Any) -> ModelSource:
    written(folder / "config.json", json.dumps(config))
    return ModelSource(folder, "bot")


def test_sixteen_bits_become_thirty_two_where_the_cpu_is_slow_at_them(
    tmp_path: Path, old: Path, newer: Path, new: Path
):
    model = source(tmp_path, dtype="bfloat16")

    assert dtype(model, CPU, old) == "float32"
    assert dtype(model, CPU, newer) == "float32"
    assert dtype(model, CPU, new) == "auto"


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_thirty_two_bits_stay_what_they_are(name: str, tmp_path: Path, new: Path):
    model = source(tmp_path, **{name: "float32"})

    assert dtype(model, CPU, new) == "float32"
    assert dtype(model, EngineSettings(device="gpu"), new) == "auto"


def test_what_was_set_is_kept_and_a_gpu_goes_by_the_checkpoint(tmp_path: Path, old: Path):
    model = source(tmp_path, dtype="bfloat16")

    assert dtype(model, EngineSettings(device="cpu", dtype="bfloat16"), old) == "bfloat16"
    assert dtype(model, EngineSettings(device="gpu"), old) == "auto"


def test_quantized_weights_keep_their_own(tmp_path: Path, old: Path):
    assert dtype(source(tmp_path, dtype="bfloat16", quantization_config=INT8), CPU, old) == "auto"


def test_memory_is_asked_for_what_the_weights_become(tmp_path: Path, old: Path, new: Path):
    model = source(tmp_path, torch_dtype="bfloat16")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))

    assert (loaded_bytes(model, CPU, old), loaded_bytes(model, CPU, new)) == (2000, 1000)


@pytest.mark.parametrize("quantized", [INT4, {"quant_method": "gptq", "bits": 4}])
def test_four_bit_weights_are_refused_before_they_end_the_engine(
    quantized: dict[str, Any], tmp_path: Path, old: Path, newer: Path
):
    model = source(tmp_path, quantization_config=quantized)

    with pytest.raises(ModelRefused, match=r"bot has 4-bit weights.*AVX-512.*w8a8"):
        require_kernels(model, CPU, old)
    require_kernels(model, CPU, newer)
    require_kernels(model, EngineSettings(device="gpu"), old)


def test_other_weights_are_loaded_anywhere(tmp_path: Path, old: Path):
    require_kernels(source(tmp_path, quantization_config=INT8), CPU, old)
    require_kernels(source(tmp_path), CPU, old)

    with pytest.raises(ModelRefused):
        require_kernels(source(tmp_path, quantization_config=INT4), CPU, old)


def test_a_processor_that_nobody_describes_is_left_to_vllm(tmp_path: Path):
    arm = written(tmp_path / "arm", "processor\t: 0\nFeatures\t: fp asimd\n")

    assert not lacks_avx512(tmp_path / "missing")
    assert not lacks_avx512(arm)
