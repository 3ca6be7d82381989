"""A sparse mixture of experts in place of an MLP: a router sends each token to a few of them (Shazeer et al. 2017).

Tensors are named with their shapes: T tokens, D width of the stream, E experts, C experts that a token is sent to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.model.config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Routing:
    """How the tokens of one pass were sent."""

    probabilities_TE: torch.Tensor
    chosen_TC: torch.Tensor
    shares_TC: torch.Tensor
    """How much each chosen expert counts; a token's sum to one."""

    @property
    def load_E(self) -> torch.Tensor:
        """Part of all choices that fell on each expert: 1/E each where the load is even."""
        num_experts = self.probabilities_TE.shape[1]
        return torch.bincount(self.chosen_TC.flatten(), minlength=num_experts) / self.chosen_TC.numel()

    @property
    def entropy(self) -> float:
        """Of the load, in parts of the largest: 1 where it is even, 0 where one expert gets all."""
        load_E = self.load_E
        return float(torch.special.entr(load_E).sum()) / math.log(max(2, len(load_E)))

    def balance_loss(self) -> torch.Tensor:
        """E times the sum of load times mean probability (Fedus et al. 2022, equation 4): C where both are even.

        Of these tokens alone: parts of a batch give other values than the whole.
        """
        num_tokens, num_experts = self.probabilities_TE.shape
        choices_E = self.load_E * self.chosen_TC.shape[1]
        return num_experts * (choices_E * self.probabilities_TE.sum(dim=0) / num_tokens).sum()


class Experts(nn.Module):
    """MLPs and the router before them, as Mixtral has them (Jiang et al. 2024)."""

    def __init__(self, config: ModelConfig, make_expert: Callable[[ModelConfig], nn.Module]) -> None:
        super().__init__()
        self.per_token = config.experts_per_token
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.experts = nn.ModuleList(make_expert(config) for _ in range(config.experts))
        self.routing: Routing | None = None
        """Of the last pass."""

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        x_TD = x_BLD.flatten(0, 1)
        self.routing = self._route(x_TD)
        mixed_TD = torch.zeros_like(x_TD)
        for index, expert in enumerate(self.experts):
            # An expert without tokens is run on none of them: its weights get a gradient, of zero, in every process.
            token, choice = torch.where(self.routing.chosen_TC == index)
            share = self.routing.shares_TC[token, choice, None].to(x_TD.dtype)
            # Under autocast an expert answers in a narrower type than the stream's.
            mixed_TD = mixed_TD.index_add(0, token, (expert(x_TD[token]) * share).to(x_TD.dtype))
        return mixed_TD.view_as(x_BLD)

    def _route(self, x_TD: torch.Tensor) -> Routing:
        # In fp32 also where the rest is not: near choices must not turn on rounding (Fedus et al. 2022).
        probabilities_TE = self.router(x_TD).float().softmax(dim=-1)
        best_TC, chosen_TC = probabilities_TE.topk(self.per_token, dim=-1)
        # Mixtral divides the shares of the chosen anew, so that they sum to one.
        return Routing(probabilities_TE, chosen_TC, best_TC / best_TC.sum(dim=-1, keepdim=True))
