"""Weights, gradients and optimizer state divided among the processes of a run, so that each holds a share of them.

ZeRO's third stage (Rajbhandari et al. 2020) as PyTorch's `fully_shard` has it (FSDP2; Zhao et al. 2023): a layer's
weights are gathered when it is calculated and dropped after it. Results are those of the whole model, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only


def shard(model: nn.Module, accelerator: Accelerator, dtype: torch.dtype) -> nn.Module:
    """A sharded copy, which trains in the model's place; the model's own weights are empty until `fill`.

    Weights are gathered in `dtype`, which is calculated in; shares and gradients are as the model's weights.
    """
    if not dist.is_initialized():  # one process, without torchrun
        dist.init_process_group(store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # deepcopy takes what its memo names: the copy shares the memory of the weights, which are not held twice.
    shared: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    sharded = copy.deepcopy(model, shared)
    # Gradients are summed in fp32: in 16 bits, the sum over many processes loses small ones.
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in _layers(sharded):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(sharded, mesh=mesh, mp_policy=policy)
    _empty(model)
    return sharded


def fill(model: nn.Module, sharded: nn.Module) -> None:
    """Give the model the weights of its sharded copy, whole; all processes call it together."""
    for parameter, share in zip(model.parameters(), sharded.parameters(), strict=True):
        parameter.data = whole(share.detach())


@contextmanager
def filled(model: nn.Module, sharded: nn.Module) -> Iterator[None]:
    """The same for the block alone; it takes the memory of a whole model."""
    fill(model, sharded)
    try:
        yield
    finally:
        _empty(model)


def whole(state: Any) -> Any:
    """The same with every divided tensor gathered from all processes, which call it together."""
    return tree_map_only(DTensor, lambda share: share.full_tensor(), state)


def copy_shares(parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    """Give each process its share of whole tensors."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(_share(value, parameter))


def share_optimizer_state(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """An optimizer's state whose tensors are whole, divided as the parameters are, which it numbers."""
    divided = {
        number: {
            name: _share(value, parameters[number]) if value.shape == parameters[number].shape else value
            for name, value in of_parameter.items()
        }
        for number, of_parameter in state["state"].items()
    }
    return state | {"state": divided}


@contextmanager
def without_reduction(sharded: nn.Module) -> Iterator[None]:
    """Keep the gradients of a backward pass here, to be summed over the processes with a later one's."""
    assert isinstance(sharded, FSDPModule)
    sharded.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        sharded.set_requires_gradient_sync(True)


def _empty(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)


def _share(value: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value.to(parameter.dtype), parameter.device_mesh, parameter.placements)


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """What a model repeats, and so what is worth gathering by itself; not what lies inside of it."""
    for child in model.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1:
            yield from child
        else:
            yield from _layers(child)
