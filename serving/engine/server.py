"""vLLM's server, started so that on a CPU its packages are imported once and the model runs beside the scheduler.

    python -P -m serving.engine.server ARGUMENT …        the arguments are those of vLLM's own module

By itself vLLM starts three Python processes here, server, engine core and worker, and each imports it anew: three
quarters of a start. Here the core is forked from the server, and is the worker as well: then neither of the two waits
for the other by polling, which took a core away from what computes (docs/decisions/050-one-import-on-a-cpu.md).
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

# The `vllm` command of the CPU build looks up a distribution named `vllm` and fails: run the module.
SERVER_MODULE = "vllm.entrypoints.openai.api_server"
EXECUTOR = "serving.engine.executor.SameProcessExecutor"


def main() -> None:
    """Run vLLM's server until it ends."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from serving.engine import top_p

        top_p.install()
        # Elsewhere forks are unsafe, and cores cannot be chosen.
        if sys.platform == "linux":
            start_by_fork(type(current_platform))
    runpy.run_module(SERVER_MODULE, run_name="__main__", alter_sys=True)


def start_by_fork(platform: Any) -> None:
    """Have `platform`, which completes each configuration, choose one forked process where one is enough for it.

    vLLM's own choice stays where several processes are asked for (`--tensor-parallel-size 2`), where a backend is named
    (`--distributed-executor-backend mp`), and for models of images and sounds: these are prepared in the server with
    threads of PyTorch, which do not live through a fork.
    """
    complete = platform.check_and_update_config

    def check_and_update_config(config: Any) -> None:
        parallel, model = config.parallel_config, config.model_config
        is_free = parallel.distributed_executor_backend == "uni" and parallel.data_parallel_size == 1
        complete(config)
        if is_free and model is not None and not model.is_multimodal_model:
            import torch

            # A process that has used several threads of OpenMP leaves its children none.
            torch.set_num_threads(1)
            parallel.distributed_executor_backend = EXECUTOR
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    platform.check_and_update_config = staticmethod(check_and_update_config)


def bind_threads(cpu_lists: list[list[int]]) -> None:
    """Compute on the first of these lists of cores, a thread each; on any core where there is none (`nobind`)."""
    import torch

    cpus = cpu_lists[0] if cpu_lists else sorted(os.sched_getaffinity(0))
    # Threads that start later inherit it: those of OpenMP do.
    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(len(cpus))


if __name__ == "__main__":
    main()
