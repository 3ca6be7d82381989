"""What the shared loop adds to a training step: python -m loadtests.benchmarks.training_step

In one process, steps of `training.methods.trainer` take turns with steps of a bare loop that makes the same calls of
PyTorch: forward, backward, clipping, AdamW. Model and batches are those of recipes/shakespeare.yaml, on random tokens.
Compared is processor time, which other programs on the machine change less; a step of ours includes writing
its figures. Then the losses of micro-batches of 1, 2 and 8.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy

from training.data.corpus import Corpus
from training.methods.pretrain import BlockObjective
from training.methods.run_folder import RunFolder
from training.methods.schedule import BatchPlan, learning_rate_factor
from training.methods.trainer import Trainer
from training.model.decoder import Decoder
from training.recipes import load_recipe
from training.recipes.pretrain import PretrainRecipe

RECIPE = Path(__file__).parents[2] / "recipes" / "shakespeare.yaml"
VOCABULARY = 322
# The first steps also allocate what later ones reuse.
WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokens_T = torch.randint(0, VOCABULARY, (20_000,), generator=torch.Generator().manual_seed(0))
    corpus = Corpus(tokens_T, len(tokens_T))

    recipe = _recipe(f"steps={arguments.steps}")
    bare = BareLoop(recipe, corpus)
    ours, theirs = _in_turns(recipe, corpus, bare)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    quarter, half, three_quarters = statistics.quantiles(ratios, n=4)
    print(
        f"training step ÷ bare step: {half:.3f} in the median ({quarter:.3f}–{three_quarters:.3f}), "
        f"{sum(ours) / sum(theirs):.3f} in sum, of {len(ratios)} pairs; "
        f"{1000 * statistics.median(theirs):.1f} ms of processor time a bare step"
    )
    losses = [_losses(_recipe("steps=12", "batch_size=8", f"micro_batch_size={size}"), corpus) for size in (1, 2, 8)]
    for name, steps in (("the first step", 1), ("12 steps", 12)):
        apart = max(abs(a - b) / b for parts in losses[:2] for a, b in zip(parts[:steps], losses[2], strict=False))
        print(f"losses of micro-batches of 1, 2 and 8, {name}: at most {apart:.1e} apart, relatively")


def _recipe(*overrides: str) -> PretrainRecipe:
    recipe = load_recipe(RECIPE, ["name=step", *overrides])
    assert isinstance(recipe, PretrainRecipe)
    return recipe


def _model(recipe: PretrainRecipe) -> Decoder:
    torch.manual_seed(0)
    return Decoder(recipe.model.config(VOCABULARY, recipe.data.block))


class BareLoop:
    """The calls of PyTorch, and nothing else."""

    def __init__(self, recipe: PretrainRecipe, corpus: Corpus) -> None:
        self.recipe, self.corpus, self.block = recipe, corpus, recipe.data.block
        self.model = _model(recipe).train()
        settings = recipe.optimizer
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
        self.num_steps = recipe.num_steps(corpus.num_blocks(self.block))
        self.batches = BatchPlan(corpus.num_blocks(self.block), recipe.batch_size, recipe.seed).steps(self.num_steps)

    def step(self, number: int) -> None:
        tokens_T, block, settings = self.corpus.tokens_T, self.block, self.recipe.optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(number, self.num_steps, self.recipe.schedule)
        ids_BL = torch.stack([tokens_T[index * block : (index + 1) * block + 1] for index in next(self.batches)])
        logits_BLV = self.model(ids_BL[:, :-1])
        loss = cross_entropy(logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()


def _in_turns(recipe: PretrainRecipe, corpus: Corpus, bare: BareLoop) -> tuple[list[float], list[float]]:
    """Seconds of each step: ours from the end of the bare step before it, which is taken after each of ours."""
    ours: list[float] = []
    theirs: list[float] = []
    began = 0.0

    def after_step(done: int) -> None:
        nonlocal began
        ended = time.process_time()
        bare.step(done - 1)
        now = time.process_time()
        if done > WARM_UP:
            ours.append(ended - began)
            theirs.append(now - ended)
        began = now

    _train(recipe, corpus, after_step)
    return ours, theirs


def _losses(recipe: PretrainRecipe, corpus: Corpus) -> list[float]:
    return _train(recipe, corpus, lambda done: None)


def _train(recipe: PretrainRecipe, corpus: Corpus, after_step: Callable[[int], None]) -> list[float]:
    model, accelerator = _model(recipe), Accelerator(cpu=True)
    objective = BlockObjective(corpus, recipe.data.block, 0.0, accelerator.device)
    with tempfile.TemporaryDirectory() as home:
        run = RunFolder.of(Path(home), recipe.name, recipe.model_dump(mode="json"), [])
        with run.held():
            return Trainer(recipe, accelerator, run, model, objective).train(show=False, after_step=after_step).losses


if __name__ == "__main__":
    main()
