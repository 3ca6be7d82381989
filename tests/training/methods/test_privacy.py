"""The private step, on a model of one layer."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from training.errors import RecipeError, TrainingError
from training.methods.privacy import NOISE_KEY, PrivateSteps, SecretDraws, noise_key, require_sound
from training.methods.run_folder import RunFolder
from training.methods.trainer import Trainer, Training
from training.outcome import Outcome
from training.recipes import load_recipe
from training.recipes.sections import GradientRecipe
from training.registry import Registry

PRIVATE = {"epsilon": 4.0, "delta": 1e-3}


class Interrupted(Exception):
    pass


class Line:
    """Learn y = 2x; an example weighs as many tokens as it says."""

    def __init__(self, examples: int = 40) -> None:
        self.lengths = [1] * examples

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        x = torch.tensor([[index / 10] for index in indices])
        return (model(x) - 2 * x).square().sum()


def recipe(**settings: Any) -> GradientRecipe:
    plain = {"method": "any", "name": "line", "steps": 12, "batch_size": 4, "optimizer": {"learning_rate": 0.05}}
    return GradientRecipe.model_validate({**plain, "privacy": PRIVATE, **settings})


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1))


def folder(home: Path, settings: GradientRecipe) -> RunFolder:
    return RunFolder.of(home, "line", settings.model_dump(mode="json"), [])


def private_steps(home: Path, settings: GradientRecipe, objective: Line | None = None) -> PrivateSteps:
    run = folder(home, settings)
    run.path.mkdir(parents=True, exist_ok=True)
    return PrivateSteps(settings, Accelerator(cpu=True), run, objective or Line(), settings.num_steps(40))


def run_line(
    home: Path, settings: GradientRecipe, stop_after: int | None = None
) -> tuple[Training, list[torch.Tensor]]:
    run, net = folder(home, settings), model()

    def stop(done: int) -> None:
        if done == stop_after:
            raise Interrupted

    with run.held():
        trained = Trainer(settings, Accelerator(cpu=True), run, net, Line()).train(show=False, after_step=stop)
    return trained, [parameter.detach() for parameter in net.parameters()]


def test_a_private_run_stopped_at_any_step_goes_on_to_the_same_losses_and_weights(home: Path) -> None:
    settings = recipe(save_every=2)
    whole, weights = run_line(home, settings)
    folder(home, settings).finish()

    for stop in (1, 4, 7, 11):
        with pytest.raises(Interrupted):
            run_line(home, settings, stop_after=stop)
        again, same = run_line(home, settings)
        folder(home, settings).finish()
        assert again.losses == whole.losses
        assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))


def test_another_machine_draws_other_noise_for_the_same_seed(home: Path) -> None:
    _, here = run_line(home / "here", recipe())
    _, there = run_line(home / "there", recipe())

    assert not torch.equal(here[0], there[0])


def test_the_key_of_the_noise_is_its_owners_alone(home: Path) -> None:
    path = home / "runs" / NOISE_KEY

    key = noise_key(path)

    assert noise_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(key[:5])
    with pytest.raises(TrainingError, match=r"noise\.key: is not a key of 32 bytes"):
        noise_key(path)


def test_the_figures_say_what_was_spent_and_no_losses(home: Path) -> None:
    trained, _ = run_line(home, recipe())

    assert trained.guarantee is not None
    assert 3.99 < trained.guarantee.epsilon <= 4.0 + 1e-6
    assert trained.figures() == trained.guarantee.figures()
    assert trained.figures().keys() == {"epsilon", "delta", "noise_multiplier", "sample_rate", "private_steps"}
    assert trained.figures()["sample_rate"] == 4 / 40
    assert trained.notes()[0].startswith("Differentially private by example: epsilon 3.999 at")


def test_each_example_is_drawn_by_itself(home: Path) -> None:
    steps = list(private_steps(home, recipe(steps=2000)).steps(2000))

    sizes = np.array([len(step) for step in steps])
    assert abs(sizes.mean() - 4) < 0.2
    assert abs(sizes.var() - 40 * 0.1 * 0.9) < 0.5  # of a batch of a fixed size, it would be 0
    often = np.bincount([index for step in steps for index in step], minlength=40) / 2000
    assert np.abs(often - 0.1).max() < 0.035


def gradient(home: Path, batch: list[int], clip: float, noise: float = 0.0) -> torch.Tensor:
    steps = private_steps(home, recipe(privacy={**PRIVATE, "clip": clip}))
    steps.noise_multiplier = noise
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        net.bias.fill_(0.0)
    trained = list(net.parameters())
    steps.backward(net, trained, 0, batch, lambda: torch.enable_grad())
    return torch.cat([parameter.grad.flatten() for parameter in trained if parameter.grad is not None])


def test_an_example_moves_the_sum_by_the_clipping_norm_at_most(home: Path) -> None:
    clip = 0.3
    alone = [gradient(home, [index], clip) * 4 for index in (5, 20, 39)]  # times the batch's size: the sum

    assert all(float(gradient.norm()) <= clip for gradient in alone)
    assert torch.allclose(gradient(home, [5, 20, 39], clip) * 4, torch.stack(alone).sum(0), atol=1e-6)
    # Below the norm nothing is clipped: the gradient of (x - 2x)² by weight and bias.
    assert torch.allclose(gradient(home, [5], 1e3) * 4, torch.tensor([-2 * 0.5**2, -2 * 0.5]), atol=1e-6)


def test_the_noise_is_as_wide_as_accounted_for_also_where_nobody_was_drawn(home: Path) -> None:
    settings = recipe(privacy={**PRIVATE, "clip": 0.5})
    steps = private_steps(home, settings)
    wide = nn.Linear(200, 100)
    trained = list(wide.parameters())

    loss = steps.backward(wide, trained, 3, [], lambda: torch.enable_grad())

    assert loss == 0.0
    assert wide.weight.grad is not None
    expected = steps.noise_multiplier * 0.5 / 4
    assert float(wide.weight.grad.std()) == pytest.approx(expected, rel=0.03)
    assert abs(float(wide.weight.grad.mean())) < expected / 30


def test_no_two_steps_runs_or_purposes_share_their_draws() -> None:
    key = b"k" * 32
    draws = {
        SecretDraws(key, run).of(purpose, step).integers(2**63)
        for run in ("a", "b")
        for purpose in ("noise", "sample")
        for step in range(50)
    }

    assert len(draws) == 200


def test_a_batch_larger_than_the_data_is_one_line(home: Path) -> None:
    with pytest.raises(RecipeError, match="batch_size 64 is more than the 40 examples"):
        private_steps(home, recipe(batch_size=64))


def test_a_delta_that_gives_an_example_away_is_one_line(home: Path) -> None:
    with pytest.raises(RecipeError, match=r"privacy\.delta 0\.05 would allow revealing one of the 40 examples"):
        private_steps(home, recipe(privacy={"epsilon": 1.0, "delta": 0.05}))


@pytest.mark.parametrize(("value", "fault"), [(0.0, "all zero"), (float("nan"), "not finite")])
def test_weights_that_training_cannot_leave_are_refused(value: float, fault: str) -> None:
    net = nn.Linear(2, 2)
    nn.init.constant_(net.bias, value)

    with pytest.raises(TrainingError, match=f"bias is {fault} after training"):
        require_sound(net.named_parameters())
    net.bias.requires_grad_(False)
    require_sound(net.named_parameters())


def test_a_private_fine_tuning_registers_an_adapter_and_what_it_spent(
    tiny: Registry, recipe_path: Path, train: Callable[..., Outcome]
) -> None:
    outcome = train(
        recipe_path,
        "method=sft",
        "adapter=lora",
        "output=adapter",
        "steps=6",
        "privacy={epsilon: 4, delta: 1e-3, clip: 0.5}",
    )

    assert outcome.checkpoint is not None
    evaluation = outcome.checkpoint.manifest.evaluation
    assert evaluation["epsilon"] == pytest.approx(4, abs=5e-3)
    assert (evaluation["delta"], evaluation["sample_rate"], evaluation["private_steps"]) == (1e-3, 4 / 20, 6)
    assert not {"first_loss", "last_loss"} & evaluation.keys()
    assert any(note.startswith("Differentially private by example: epsilon") for note in outcome.notes)
    stored = load_file(outcome.checkpoint.path / "adapter_model.safetensors")
    assert all(bool(tensor.isfinite().all()) and bool(tensor.any()) for tensor in stored.values())


REFUSED = [
    pytest.param("method: embed", "a pair's loss depends on its whole batch", id="contrast"),
    pytest.param("method: prune\nbase: tiny\nprune: {layers: 1}", "chosen by the examples, without noise", id="prune"),
    pytest.param("method: pretrain", "tokenizer: characters would reveal which ones occur", id="characters"),
    pytest.param(
        "method: distill\nteacher: tiny\nstudent: {layers: 1, vocabulary: used}", "reveal which tokens occur", id="used"
    ),
    pytest.param("method: sft\nbase: tiny\nprecision: fp16", "set precision to fp32 or bf16", id="fp16"),
]


@pytest.mark.parametrize(("lines", "why"), REFUSED)
def test_what_cannot_be_private_is_one_line(tmp_path: Path, lines: str, why: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{lines}\nname: private\ndata: {{train: train.jsonl}}\nsteps: 3\nprivacy: {{epsilon: 8}}\n")

    with pytest.raises(RecipeError, match=rf"^[^\n]*recipe\.yaml: privacy[^\n]*{why}[^\n]*$"):
        load_recipe(path)
