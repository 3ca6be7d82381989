"""The training commands: train, evaluate, registry, and quantize, which lives in `training.compress`.

Nothing heavy is imported before a command runs: `--help` answers at once, also where torch is not installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from training.command import TrainingSettings, measured_on, one_line_errors, open_registry
from training.errors import TrainingError
from training.registry import Checkpoint, Registry, UnknownCheckpoint
from training.registry_cli import registry

if TYPE_CHECKING:
    from training.evaluate import Source
    from training.recipes import GuardRecipe, SftRecipe
    from training.recipes.guard import GuardOutcome
    from training.recipes.sft import Outcome

__all__ = ["evaluate", "registry", "train"]  # and `quantize`, by `__getattr__`

DEFAULT_MODEL = "smollm2-135m-instruct"
"""Prepared on first use by `signet engine`."""


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--ship", is_flag=True, help="Put the guard's new weights into the package, where gateways read them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def train(ctx: click.Context, recipe: Path, overrides: tuple[str, ...], ship: bool, as_json: bool) -> None:
    """Run a training recipe and register what it makes.

    The recipe's `method` says what is trained: a chat model, or a model that the guard looks with.

    Under torchrun, several processes share the work: torchrun --nproc_per_node 2 -m signet train RECIPE

    Example: signet train recipes/lora-sft.yaml --set steps=100
    """
    from training.recipes import SftRecipe, load_recipe

    loaded = load_recipe(recipe, overrides)
    if not isinstance(loaded, SftRecipe):
        _train_guard(loaded, recipe, ctx.obj(), ship, as_json)
    elif ship:
        raise TrainingError(f"{recipe}: --ship is for the guard's recipes; serve this model by its name")
    else:
        _fine_tune(loaded, recipe, ctx.obj(), as_json)


def _fine_tune(loaded: SftRecipe, recipe: Path, settings: TrainingSettings, as_json: bool) -> None:
    store = open_registry(settings)
    is_main = os.environ.get("RANK", "0") == "0"
    base = find_model(loaded.base, store, settings, show_progress=is_main)
    from training.recipes.sft import SftRun

    run = SftRun(loaded, recipe, base, settings.home, store)
    with sigterm_as_interrupt():
        try:
            outcome = run.run()
        finally:
            run.close()
    if outcome.checkpoint is not None:
        _print_outcome(outcome, outcome.checkpoint, as_json)


def _train_guard(loaded: GuardRecipe, recipe: Path, settings: TrainingSettings, ship: bool, as_json: bool) -> None:
    from training.recipes.guard import run_guard

    with sigterm_as_interrupt():
        outcome = run_guard(loaded, recipe, settings.home, open_registry(settings), ship)
    _print_guard_outcome(outcome, as_json)


@click.command()
@click.argument("ref")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="JSONL chats to score.")
@click.option("--max-tokens", type=click.IntRange(8), default=512, show_default=True, help="Longer chats are cut here.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def evaluate(ctx: click.Context, ref: str, data: Path, max_tokens: int, as_json: bool) -> None:
    """Measure a checkpoint's perplexity on chats, over the tokens that the assistant says.

    Example: signet evaluate support-desk@1 --data recipes/data/support-desk-heldout.jsonl
    """
    settings: TrainingSettings = ctx.obj()
    source = find_model(ref, open_registry(settings), settings)
    from training.evaluate.measurement import measure_source

    measured = measure_source(source, data, max_tokens)
    result = {
        "ref": source.identity.ref,
        "digest": source.identity.digest,
        "data": str(data),
        "data_sha256": measured.data_sha256,
        "perplexity": measured.perplexity.value,
        "tokens": measured.perplexity.tokens,
        "chats": measured.perplexity.chats,
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        found = measured.perplexity
        click.echo(
            f"{source.identity.ref}: perplexity {found.value:.3f} over {found.tokens} tokens of {found.chats} chats"
        )


def find_model(ref: str, store: Registry, settings: TrainingSettings, show_progress: bool = True) -> Source:
    """The verified model behind a reference; the default one is prepared where it is missing."""
    from training.evaluate import resolve_source

    try:
        return resolve_source(ref, store, show_progress)
    except UnknownCheckpoint:
        if ref.partition("@")[0] != DEFAULT_MODEL or store.has(DEFAULT_MODEL):
            raise
    _prepare_default_model(settings)
    return resolve_source(ref, store, show_progress)


def _prepare_default_model(settings: TrainingSettings) -> None:
    """Have the engine's side fetch and register it: a process of its own, as the packages meet only in files."""
    command = [sys.executable, "-m", "signet", "engine", "--prepare-only"]
    # Its output is progress, and standard output is for results.
    environment = {**os.environ, "SIGNET_HOME": str(settings.home)}
    if subprocess.run(command, stdout=sys.stderr, env=environment).returncode:
        raise TrainingError(f"{DEFAULT_MODEL} could not be prepared: see above, or run `signet engine --prepare-only`")


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let a supervisor's SIGTERM clean up as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_outcome(outcome: Outcome, checkpoint: Checkpoint, as_json: bool) -> None:
    before, after = outcome.before, outcome.after
    if as_json:
        result = {
            "ref": checkpoint.ref,
            "digest": checkpoint.digest,
            "path": str(checkpoint.path),
            "perplexity_before": before.value,
            "perplexity_after": after.value,
            "heldout_tokens": after.tokens,
            "losses": outcome.losses,
            "seconds": outcome.seconds,
        }
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{checkpoint.ref}: held-out perplexity {before.value:.2f} before, {after.value:.2f} after, "
        f"{len(outcome.losses)} steps, {outcome.seconds:.0f} s"
    )
    click.echo(measured_on(checkpoint.manifest))
    if checkpoint.manifest.kind == "merged":
        click.echo(f"Serve it:   signet serve --model {checkpoint.ref}")
    click.echo(f"Promote it: signet registry promote {checkpoint.ref}")


def _print_guard_outcome(outcome: GuardOutcome, as_json: bool) -> None:
    checkpoint = outcome.checkpoint
    evaluation = checkpoint.manifest.evaluation
    if as_json:
        result = {
            "ref": checkpoint.ref,
            "digest": checkpoint.digest,
            "path": str(checkpoint.path),
            "evaluation": evaluation,
            "as_shipped": outcome.as_shipped,
            "seconds": outcome.seconds,
        }
        click.echo(json.dumps(result))
        return
    for name, value in evaluation.items():
        click.echo(f"{name:<40} {value:g}" if value >= 1 else f"{name:<40} {value:.3f}")
    click.echo(f"{checkpoint.ref}: {outcome.seconds:.0f} s, data card in {checkpoint.path}")
    held = "are" if outcome.as_shipped else "are not"
    click.echo(f"Its weights {held} the ones that gateways read ({outcome.weights})")


def __getattr__(name: str) -> Any:
    if name == "quantize":
        from training.compress.cli import quantize

        return quantize
    raise AttributeError(name)
