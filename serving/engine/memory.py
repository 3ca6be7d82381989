"""Whether the machine has room for an engine, asked before the slow start rather than answered by the kernel."""

from __future__ import annotations

from pathlib import Path

from serving.engine.errors import NotEnoughMemory
from serving.engine.processor import loaded_bytes
from serving.engine.resolve import ModelSource
from serving.engine.settings import EngineSettings

GB = 1024**3

# vLLM's processes themselves, and room for a batch (measured: docs/decisions/002-eager-engine.md).
PROGRAM_BYTES = int(2.5 * GB)


def require_memory(source: ModelSource, settings: EngineSettings, free_bytes: int | None) -> None:
    """Raise NotEnoughMemory when an engine on the CPU would not fit. `free_bytes` None: nobody knows, so let it try."""
    if settings.effective_device() != "cpu" or free_bytes is None:
        return
    # Weights are read through the page cache and copied once: the cache gives way, the copy stays.
    needed = PROGRAM_BYTES + loaded_bytes(source, settings) + settings.kv_cache_gb * GB
    if free_bytes >= needed:
        return
    smaller = "set engine.kv_cache_gb lower, " if settings.kv_cache_gb > 1 else ""
    raise NotEnoughMemory(
        f"the engine needs about {needed / GB:.1f} GB of memory, {free_bytes / GB:.1f} GB are free: "
        f"close other programs, {smaller}or serve a smaller model"
    )


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that can be had without swapping, in the container's limit where there is one; None where not known."""
    available = _meminfo(proc / "meminfo")
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and used is not None:
        in_container = limit - used + _reclaimable(cgroup / "memory.stat")
        available = in_container if available is None else min(available, in_container)
    return available


def _meminfo(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _reclaimable(path: Path) -> int:
    """Page cache that the container's use counts, and that the kernel drops when memory is needed."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))


def _number(path: Path) -> int | None:
    """A cgroup's file with one number; `max` means no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
