"""How fast this machine's processor reads and multiplies, by a few seconds of the two things that a model does.

    python -m monitoring.plan.probe THREADS SECONDS

A matrix larger than the caches times a vector is a step of one answer; two square matrices are a prompt. Each is timed
many times and the least counts: what else runs here only ever takes time away. A process of its own, since what lies
beneath NumPy fixes its threads as it is loaded. Power is read where the kernel shows a counter (RAPL).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from monitoring.plan.accelerators import HERE, Accelerator, Arithmetic
from monitoring.plan.errors import PlanError
from monitoring.plan.sources import Source

POWERCAP = Path("/sys/class/powercap")
CPUINFO = Path("/proc/cpuinfo")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
# 256 MB in 32 bits, several times the last cache of most processors.
_ROWS, _COLUMNS = 8192, 8192
_SIDE = 1024
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Measured:
    """What a probe saw, on so many threads, in 32 bits."""

    threads: int
    bandwidth: float
    """Bytes a second."""
    operations: float
    """A second; a multiplication and an addition are two."""
    power_w: float | None
    """Of the processor, while it multiplied, above nothing; None where no counter is to be read."""


def here(seconds: float = 1.5) -> tuple[Accelerator, Measured]:
    """This machine as an accelerator, on the cores that vLLM's CPU engine takes: all but one.

    Raises PlanError when the probe fails.
    """
    threads = max(_cores() - 1, 1)
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    command = [sys.executable, "-P", "-m", "monitoring.plan.probe", str(threads), str(seconds)]
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
        measured = Measured(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise PlanError(f"this machine cannot be measured: {type(error).__name__}") from error
    return _as_accelerator(measured, _flags(CPUINFO), _total_memory()), measured


def engine_dtype(flags: frozenset[str]) -> str | None:
    """What the engine computes in here, where it is not the checkpoint's own (docs/decisions/024)."""
    return "float32" if flags and "avx512_bf16" not in flags else None


def here_dtype() -> str | None:
    """`engine_dtype` of this machine."""
    return engine_dtype(_flags(CPUINFO))


def _as_accelerator(measured: Measured, flags: frozenset[str], memory: int) -> Accelerator:
    operations: dict[Arithmetic, float] = {"fp32": measured.operations}
    if not flags or "avx512_bf16" in flags:
        # VDPBF16PS multiplies twice as many pairs as a fused multiply-add of 32-bit numbers.
        operations["16-bit"] = 2 * measured.operations
    return Accelerator(
        name=HERE,
        memory_bytes=memory,
        bandwidth=measured.bandwidth,
        operations=operations,
        power_w=measured.power_w,
        link=measured.bandwidth,
        batched_tokens=2048,
        sources=(
            Source(f"measured here on {measured.threads} of its cores", time.strftime("%Y-%m-%d", time.gmtime())),
        ),
    )


def _flags(path: Path) -> frozenset[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cores() -> int:
    """Those that this process may use; all, where a system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 2)


def energy_counters(folder: Path = POWERCAP) -> list[Path]:
    """Counters of whole processor packages that this user may read, in microjoules."""
    found = sorted(folder.glob("intel-rapl:[0-9]*/energy_uj"))
    return [path for path in found if path.parent.name.count(":") == 1 and os.access(path, os.R_OK)]


def measure(threads: int, seconds: float) -> Measured:
    """Time both products, about `seconds` each."""
    import numpy as np

    matrix = np.ones((_ROWS, _COLUMNS), np.float32)
    vector = np.ones(_COLUMNS, np.float32)
    reading = _least(lambda: matrix @ vector, seconds)
    square = np.ones((_SIDE, _SIDE), np.float32)
    counters = energy_counters()
    before, began = _joules(counters), time.perf_counter()
    multiplying = _least(lambda: square @ square, seconds)
    used, spent = _joules(counters) - before, time.perf_counter() - began
    return Measured(
        threads=threads,
        bandwidth=matrix.nbytes / reading,
        operations=2 * _SIDE**3 / multiplying,
        # A counter that ran over in between has gone back.
        power_w=used / spent if counters and used > 0 else None,
    )


def _joules(counters: list[Path]) -> float:
    return sum(int(path.read_text()) for path in counters) / 1e6


def _least(work: Callable[[], object], seconds: float) -> float:
    """Of the second time and all later ones, for so many seconds: the first makes what it needs."""
    work()
    least, end = float("inf"), time.perf_counter() + seconds
    while True:
        began = time.perf_counter()
        work()
        now = time.perf_counter()
        least = min(least, now - began)
        if now >= end:
            return least


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(int(sys.argv[1]), float(sys.argv[2])))))
