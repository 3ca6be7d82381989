"""Too little memory is said before the slow start."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.engine.errors import NotEnoughMemory
from serving.engine.memory import GB, free_memory, require_memory
from serving.engine.resolve import ModelSource
from serving.engine.settings import EngineSettings


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(GB)
    return ModelSource(tmp_path, "bot")


def test_says_what_is_needed_what_is_free_and_what_to_do(source: ModelSource):
    with pytest.raises(NotEnoughMemory, match=r"needs about 5\.5 GB of memory, 5\.0 GB are free: .*kv_cache_gb"):
        require_memory(source, EngineSettings(device="cpu", kv_cache_gb=2), 5 * GB)


def test_enough_is_enough(source: ModelSource):
    needed = 11 * GB // 2
    require_memory(source, EngineSettings(device="cpu", kv_cache_gb=2), needed)

    with pytest.raises(NotEnoughMemory):
        require_memory(source, EngineSettings(device="cpu", kv_cache_gb=2), needed - 1)


def test_a_gpu_and_an_unknown_machine_are_left_to_vllm(source: ModelSource):
    require_memory(source, EngineSettings(device="gpu"), 1)
    require_memory(source, EngineSettings(device="cpu"), None)

    with pytest.raises(NotEnoughMemory):
        require_memory(source, EngineSettings(device="cpu"), 1)


def test_a_container_has_the_smaller_of_machine_and_limit(tmp_path: Path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {20 * GB // 1024} kB\n")
    assert free_memory(proc, cgroup) == 20 * GB

    (cgroup / "memory.max").write_text(f"{8 * GB}\n")
    (cgroup / "memory.current").write_text(f"{5 * GB}\n")
    (cgroup / "memory.stat").write_text(f"anon 1\ninactive_file {GB}\nactive_file {GB}\n")
    assert free_memory(proc, cgroup) == 5 * GB

    (cgroup / "memory.max").write_text("max\n")
    assert free_memory(proc, cgroup) == 20 * GB


def test_this_machine_knows_its_memory():
    free = free_memory()

    assert free is None or free > 0
