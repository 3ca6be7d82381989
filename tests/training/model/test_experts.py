from __future__ import annotations

from typing import Any

import pytest
import torch

from training.model import ModelConfig
from training.model.decoder import SwiGLU
from training.model.experts import Experts, Routing


def experts(count: int = 4, per_token: int = 2) -> Experts:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=5, layers=1, width=16, heads=2, kv_heads=2, hidden=24, context=8,
        experts=count, experts_per_token=per_token,
    )  # fmt: skip
    return Experts(config, SwiGLU)


@pytest.mark.parametrize("per_token", [1, 2, 4])
def test_a_token_gets_the_mixture_of_its_experts(per_token: int) -> None:
    layer = experts(per_token=per_token)
    x = torch.randn(2, 3, 16)

    mixed = layer(x)

    for row in range(2):
        for at in range(3):
            scores = layer.router(x[row, at]).softmax(dim=-1)
            best = scores.topk(per_token)
            expected = sum(
                share * layer.experts[index](x[row, at])
                for share, index in zip(best.values / best.values.sum(), best.indices.tolist(), strict=True)
            )
            torch.testing.assert_close(mixed[row, at], expected, rtol=0, atol=1e-6)


def test_the_balance_is_that_of_transformers() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    layer = experts()
    x = torch.randn(2, 9, 16)
    layer(x)
    assert layer.routing is not None

    theirs = load_balancing_loss_func((layer.router(x.flatten(0, 1)),), num_experts=4, top_k=2)

    torch.testing.assert_close(layer.routing.balance_loss(), theirs)


def test_an_even_load_is_the_least_and_a_single_expert_the_most() -> None:
    even = Routing(torch.full((4, 4), 0.25), torch.tensor([[0], [1], [2], [3]]), torch.ones(4, 1))
    one = torch.zeros(4, 4)
    one[:, 2] = 1
    all_on_one = Routing(one, torch.full((4, 1), 2), torch.ones(4, 1))

    assert (float(even.balance_loss()), even.entropy) == (pytest.approx(1), pytest.approx(1))
    assert (float(all_on_one.balance_loss()), all_on_one.entropy) == (4, 0)
    assert all_on_one.load_E.tolist() == [0, 0, 1, 0]


def test_the_balance_evens_the_load() -> None:
    layer = experts(count=4, per_token=1)
    x = torch.randn(1, 256, 16)
    with torch.no_grad():
        layer.router.weight[1] += 0.5 * x.mean(dim=(0, 1))
    optimizer = torch.optim.Adam([layer.router.weight], lr=0.02)

    layer(x)
    assert layer.routing is not None
    before = layer.routing.balance_loss().item()
    for _ in range(100):
        layer(x)
        layer.routing.balance_loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert layer.routing.balance_loss().item() < before
    assert layer.routing.entropy > 0.97


def test_an_expert_that_no_token_chose_gets_a_gradient_of_zero() -> None:
    layer = experts(count=4, per_token=1)
    with torch.no_grad():
        layer.router.weight.zero_()  # all alike: the first is taken
    layer(torch.randn(1, 3, 16)).sum().backward()

    grads: list[Any] = [expert.up.weight.grad for expert in layer.experts]
    assert all(grad is not None for grad in grads)
    assert [bool(grad.any()) for grad in grads].count(True) == 1
