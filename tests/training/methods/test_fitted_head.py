from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.errors import RecipeError
from training.lexical.counts import inverse_document_frequency, weigh_texts
from training.methods.fitted_head import fit_head, head_of


def groups(count: int) -> list[str]:
    return [f"group {index}" for index in range(count)]


def test_no_head_near_it_is_better() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(300, 4) * torch.tensor([1.0, 5.0, 0.2, 1.0]) + 3
    targets = (inputs @ torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 4.0], [0.0, 0.0, 0.0]])).argmax(1)

    head = fit_head(inputs, targets, 3, groups(300))

    spread = (inputs.double() - inputs.double().mean(0)).square().mean().sqrt()

    def penalized(weight: torch.Tensor, bias: torch.Tensor) -> float:
        logits = inputs.double() @ weight.double().T + bias.double()
        square = (weight.double() * spread).square().sum()
        return float(cross_entropy(logits, targets, reduction="sum") + head.penalty / 2 * square)

    best = penalized(head.weight, head.bias)
    for _ in range(20):
        assert penalized(head.weight + 0.03 * torch.randn(3, 4) / spread, head.bias + 0.03 * torch.randn(3)) > best
    assert head.loss < head.first_loss == pytest.approx(1.0986, abs=1e-3)


def test_where_inputs_say_nothing_a_large_penalty_is_chosen() -> None:
    torch.manual_seed(0)
    noise, targets = torch.randn(200, 20), torch.randint(0, 2, (200,))

    assert fit_head(noise, targets, 2, groups(200)).penalty >= 100


def test_twins_of_one_group_do_not_vouch_for_each_other() -> None:
    """Each text stands in the data five times: with all in one fold, what is learned by heart helps nobody."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 60).repeat_interleave(5, 0), torch.randint(0, 2, (40,)).repeat_interleave(5)

    apart = fit_head(inputs, targets, 2, groups(200))
    together = fit_head(inputs, targets, 2, [f"text {index // 5}" for index in range(200)])

    assert apart.penalty < together.penalty


def test_several_labels_each_for_itself() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(200, 3)
    targets = (inputs[:, :2] > 0.5).float()

    head = fit_head(inputs, targets, 2, groups(200))

    given = inputs @ head.weight.T + head.bias > 0
    assert (given == targets.bool()).float().mean() > 0.95


def test_tokens_tell_what_inputs_do_not() -> None:
    torch.manual_seed(0)
    targets = torch.randint(0, 2, (200,))
    texts = [[2, 5 + int(target), 7 + index % 2, 3] for index, target in enumerate(targets)]
    tokens = weigh_texts(texts, inverse_document_frequency(texts, 12))
    inputs = torch.randn(200, 4)

    head = fit_head(inputs, targets, 2, groups(200), tokens, 12)

    assert head.lexical is not None
    said = inputs @ head.weight.T + head.bias + tokens.scores(head.lexical)
    assert torch.equal(said.argmax(1), targets)
    assert head.lexical[[0, 9]].abs().max() == 0  # which no text has
    assert head.left_out is not None
    assert torch.equal(head.left_out.argmax(1), targets)
    assert not torch.allclose(head.left_out.float(), said, atol=1e-3)


def test_a_single_group_is_fitted_without_leaving_it_out() -> None:
    head = fit_head(torch.randn(20, 3), torch.randint(0, 2, (20,)), 2, ["one"] * 20)

    assert head.left_out is None


def test_a_model_without_a_linear_head_is_said() -> None:
    with pytest.raises(RecipeError, match="needs a linear head"):
        head_of(torch.nn.Linear(2, 3), 3)
