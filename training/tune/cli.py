"""`signet tune`. Imports nothing heavy before it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.command import TrainingSettings, one_line_errors, open_registry
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.tune.results import Result
    from training.tune.study import Pruning


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(1), required=True, help="Total number of trials.")
@click.option("--store", metavar="URL", help="Database that workers share; default: a SQLite file in SIGNET_HOME.")
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "none"]),
    default="median",
    show_default=True,
    help="How to stop bad trials early: below the median of the others, or by successive halving.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def tune(
    ctx: click.Context,
    recipe: Path,
    trials: int,
    store: str | None,
    pruner: Pruning,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Search for the recipe settings that do best on held-out data, and write the best recipe.

    The recipe's section `search` lists what to try. Trials register nothing. Run the command again to continue up to
    --trials in total. Several runs, on any machines that reach the store, share the work.

    Example: signet tune recipes/tune-spam.yaml --trials 30
    """
    from training.command import find_model, sigterm_as_interrupt
    from training.outcome import Context
    from training.recipes import load_recipe

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(f"{recipe}: a trial trains in one process: start tune several times, without torchrun")
    loaded = load_recipe(recipe, overrides)
    settings: TrainingSettings = ctx.obj()
    registry = open_registry(settings)
    context = Context(
        recipe_path=recipe,
        home=settings.home,
        registry=registry,
        find_model=lambda ref: find_model(ref, registry, settings, show_progress=False),
    )
    from training.tune.search import search

    with sigterm_as_interrupt():
        result = search(loaded, context, trials, store, pruner)
    click.echo(json.dumps(result.figures()) if as_json else _lines(result))


def _lines(result: Result) -> str:
    best = result.best
    lines = [
        f"{result.folder.name}: {len(result.trials)} trials, {result.pruned} ended early; "
        f"best {result.measure} {best.value:.4g}, trial {best.number}"
    ]
    for name, value in result.values.items():
        shown = f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
        share = f"   {result.importance[name]:.0%} of what matters" if name in result.importance else ""
        lines.append(f"  {name:<28} {shown:<12}{share}".rstrip())
    plots = ", ".join(path.name for path in sorted(result.folder.glob("*.svg")))
    lines += [f"Plots:    {plots} in {result.folder}", f"Train it: signet train {result.folder}/best.yaml"]
    return "\n".join(lines)
