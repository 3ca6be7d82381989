"""The loop that gradient methods share, on a model of one layer."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from training.command import sigterm_as_interrupt
from training.errors import RecipeError, TrainingError
from training.methods.run_folder import RunFolder
from training.methods.trainer import Trainer, Training
from training.recipes.sections import GradientRecipe


class Interrupted(Exception):
    pass


class Line:
    """Learn y = 2x with noise from dropout: what a run draws at random shows in its losses."""

    lengths = (1,) * 20

    def __init__(self, spoiled_step: int | None = None) -> None:
        self.calls = 0
        self.spoiled_step = spoiled_step
        self.before_loss: Callable[[int], None] = lambda calls: None

    def weight(self, indices: Sequence[int]) -> int:
        return len(indices)

    def loss(self, model: nn.Module, indices: Sequence[int]) -> torch.Tensor:
        self.before_loss(self.calls)
        x = torch.tensor([[index / 10] for index in indices])
        loss = (model(x) - 2 * x).square().sum()
        self.calls += 1
        return loss * float("inf") if self.calls - 1 == self.spoiled_step else loss


def recipe(**settings: Any) -> GradientRecipe:
    plain = {"method": "any", "name": "line", "steps": 12, "batch_size": 4, "optimizer": {"learning_rate": 0.05}}
    return GradientRecipe.model_validate({**plain, **settings})


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1))


def folder(home: Path, settings: GradientRecipe) -> RunFolder:
    return RunFolder.of(home, "line", settings.model_dump(mode="json"), [])


def train(
    home: Path,
    settings: GradientRecipe,
    objective: Line | None = None,
    stop_after: int | None = None,
    trained: nn.Module | None = None,
    before_loss: Callable[[int], None] | None = None,
) -> Training:
    run = folder(home, settings)
    objective = objective or Line()
    if before_loss is not None:
        objective.before_loss = before_loss

    def stop(done: int) -> None:
        if done == stop_after:
            raise Interrupted

    with run.held():
        accelerator = Accelerator(cpu=True)
        made = Trainer(settings, accelerator, run, trained or model(), objective)
        return made.train(show=False, after_step=stop)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("every", [1, 3])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_losses(home: Path, every: int, precision: str) -> None:
    settings = recipe(save_every=every, precision=precision)
    whole = train(home / "whole", settings).losses

    for stop in range(1, 12):
        at = home / f"stopped-{stop}"
        with pytest.raises(Interrupted):
            train(at, settings, stop_after=stop)
        objective = Line()
        assert train(at, settings, objective).losses == whole
        assert objective.calls == 12 - stop // every * every  # taken again since the last saved state, and no others
        lines = (folder(at, settings).path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(12))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a program of its own: asyncio's runner in another test may have left a handler behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_its_step_and_loses_nothing(home: Path, number: signal.Signals) -> None:
    whole = train(home / "whole", recipe()).losses
    objective, rest = Line(), Line()

    def interrupt(step: int) -> None:
        if step == 5:
            signal.raise_signal(number)

    with sigterm_as_interrupt(), pytest.raises(KeyboardInterrupt, match="continue after step 6"):
        train(home, recipe(), objective, before_loss=interrupt)
    continued = train(home, recipe(), rest)

    assert (objective.calls, rest.calls) == (6, 6)
    assert continued.losses == whole


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_does_not_wait(home: Path) -> None:
    objective = Line()

    def interrupt(step: int) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(home, recipe(), objective, before_loss=interrupt)

    assert stopped.value.args == ()
    assert objective.calls == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def process_group() -> Iterator[None]:
    """Of this process alone; methods leave it at their end."""
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_sharded_run_is_the_whole_one_and_either_goes_on_with_the_other(home: Path) -> None:
    settings = recipe(save_every=2, micro_batch_size=2)
    sharded = recipe(save_every=2, micro_batch_size=2, sharding="full")
    expected, found = model(), model()
    losses = train(home / "whole", settings, trained=expected).losses

    with pytest.raises(Interrupted):
        train(home, settings, stop_after=5)
    with pytest.raises(Interrupted):
        train(home, sharded, stop_after=9)
    continued = train(home, sharded, trained=found)

    assert continued.losses == pytest.approx(losses, rel=1e-6)
    torch.testing.assert_close(found.state_dict(), expected.state_dict())


def test_another_recipe_never_takes_the_state(home: Path) -> None:
    with pytest.raises(Interrupted):
        train(home, recipe(save_every=1), stop_after=5)
    other, same = Line(), Line()

    train(home, recipe(save_every=1, seed=1), other)
    train(home, recipe(save_every=2, micro_batch_size=4), same)

    assert (other.calls, same.calls) == (12, 7)


def test_a_finished_run_begins_anew(home: Path) -> None:
    train(home, recipe())
    folder(home, recipe()).finish()
    again = Line()

    train(home, recipe(), again)

    assert again.calls == 12


def test_the_same_run_twice_at_once_is_refused(home: Path) -> None:
    with (
        folder(home, recipe()).held(),
        pytest.raises(RecipeError, match="this run is already in progress"),
        folder(home, recipe()).held(),
    ):
        pass


def test_a_state_that_cannot_be_written_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(TrainingError, match=r"state\.pt: cannot be written: No space left on device"):
        train(home, recipe(save_every=1))


def test_an_overflow_of_fp16_skips_the_step_and_halves_the_scale(home: Path) -> None:
    settings = recipe(precision="fp16", steps=1)
    run = folder(home, settings)
    net = model()
    before = [parameter.clone() for parameter in net.parameters()]

    with run.held():
        trainer = Trainer(settings, Accelerator(cpu=True), run, net, Line(spoiled_step=0))
        scale = trainer.scaler.get_scale()
        trainer.train(show=False)

    assert trainer.scaler.get_scale() == scale / 2
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_no_number_is_one_line(home: Path, precision: str) -> None:
    with pytest.raises(RecipeError, match=r"the loss is no longer a number: lower optimizer\.learning_rate"):
        train(home, recipe(precision=precision), Line(spoiled_step=3))


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_parts_of_a_batch_give_what_the_batch_gives(micro_batch_size: int, home: Path) -> None:
    def first_step(size: int) -> tuple[list[float], list[torch.Tensor]]:
        settings = recipe(steps=1, batch_size=8, micro_batch_size=size)
        net = nn.Linear(1, 1)
        nn.init.ones_(net.weight)
        nn.init.ones_(net.bias)
        run = folder(home / str(size), settings)
        with run.held():
            losses = Trainer(settings, Accelerator(cpu=True), run, net, Line()).train(show=False).losses
        return losses, [parameter.detach() for parameter in net.parameters()]

    whole, parts = first_step(8), first_step(micro_batch_size)

    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert all(torch.allclose(left, right, rtol=1e-6) for left, right in zip(whole[1], parts[1], strict=True))


def test_memory_that_runs_out_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Line, "loss", out)

    with pytest.raises(RecipeError, match="out of memory: lower micro_batch_size"):
        train(home, recipe())
