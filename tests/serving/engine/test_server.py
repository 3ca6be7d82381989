"""Which engines are started by one fork, told from a configuration as vLLM completes it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from serving.engine.server import EXECUTOR, bind_threads, start_by_fork


class Platform:
    """As much of vLLM's CPU platform as decides where the model runs."""

    @classmethod
    def check_and_update_config(cls, config: Any) -> None:
        if config.parallel_config.distributed_executor_backend == "uni":
            config.parallel_config.distributed_executor_backend = "mp"
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"


def config(backend: str = "uni", replicas: int = 1, reads_images: bool = False, **changed: Any) -> Any:
    parallel = SimpleNamespace(distributed_executor_backend=backend, data_parallel_size=replicas)
    model = SimpleNamespace(is_multimodal_model=reads_images)
    return SimpleNamespace(**{"parallel_config": parallel, "model_config": model, **changed})


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    own = type("Own", (Platform,), {})
    start_by_fork(own)
    return own()


@pytest.fixture
def threads() -> Any:
    count, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(count)


@pytest.mark.usefixtures("threads")
def test_one_process_is_forked_and_computes(platform: Any) -> None:
    torch.set_num_threads(2)
    asked = config()

    platform.check_and_update_config(asked)

    assert asked.parallel_config.distributed_executor_backend == EXECUTOR
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"
    assert torch.get_num_threads() == 1  # more would have no threads in the child


@pytest.mark.parametrize(
    "asked",
    [config("mp"), config(replicas=2), config(reads_images=True), config(model_config=None)],
    ids=["named", "replicas", "images", "no model"],
)
def test_others_start_as_vllm_has_them(platform: Any, asked: Any) -> None:
    platform.check_and_update_config(asked)

    assert asked.parallel_config.distributed_executor_backend == "mp"
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


@pytest.mark.usefixtures("threads")
def test_threads_stay_on_their_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))

    bind_threads([cores[:1]])
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == ({cores[0]}, 1)


@pytest.mark.usefixtures("threads")
def test_without_cores_of_their_own_threads_take_all_there_are() -> None:
    cores = os.sched_getaffinity(0)

    bind_threads([])

    assert (os.sched_getaffinity(0), torch.get_num_threads()) == (cores, len(cores))
