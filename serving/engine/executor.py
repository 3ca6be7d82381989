"""Runs the model in the engine core's own process, on the cores that vLLM would give a worker of its own."""

from __future__ import annotations

from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from serving.engine.server import bind_threads


class SameProcessExecutor(UniProcExecutor):  # type: ignore[misc]
    """vLLM's executor of one process; it alone leaves the threads of OpenMP wherever they are."""

    def _init_executor(self) -> None:
        bind_threads(OMPProcessManager(self.vllm_config).cpu_lists)
        super()._init_executor()
