"""`signet train`: a recipe run, or rendered as a job for a cluster.

Nothing heavy is imported before a command runs: `--help` answers at once, also where torch is not installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from training.command import TrainingSettings, find_model, one_line_errors, open_registry, sigterm_as_interrupt
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.jobs.render import Kind
    from training.outcome import Outcome


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--ship", is_flag=True, help="Copy the guard's new weights into the package, where gateways read them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--render",
    "kind",
    type=click.Choice(["trainjob", "rayjob"]),
    help="Do not train: print a job for a cluster as YAML.",
)
@click.option("--image", help="With --render: container image with Signet and the packages that the recipe needs.")
@click.option("--claim", help="With --render: volume claim with SIGNET_HOME and the data.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="With --render: number of nodes.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="With --render: GPUs per node.")
@click.option("--cpu", default="4", show_default=True, help="With --render: CPU cores to request per node.")
@click.option("--memory", default="16Gi", show_default=True, help="With --render: memory per node.")
@click.option("--namespace", help="With --render: namespace of the job.")
@click.pass_context
@one_line_errors
def train(
    ctx: click.Context,
    /,
    recipe: Path,
    overrides: tuple[str, ...],
    ship: bool,
    as_json: bool,
    kind: Kind | None,
    image: str | None,
    claim: str | None,
    **cluster: Any,
) -> None:
    """Run a training recipe and register its result.

    The recipe's `method` determines what is trained, such as a chat model, a classifier or a tokenizer.

    Under torchrun, several processes share the work: torchrun --nproc_per_node 2 -m signet train RECIPE

    With --render, the command does not train but prints a Kubeflow TrainJob or a RayJob to apply in a cluster.

    Example: signet train recipes/lora-sft.yaml --set steps=100
    """
    if kind is None:
        for name in ("image", "claim", *cluster):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise TrainingError(f"--{name} is for --render trainjob or --render rayjob")
        run_recipe(ctx.obj(), recipe, overrides, ship, as_json)
        return
    if image is None or claim is None:
        raise TrainingError(f"--render {kind} needs --image and --claim")
    from training.evaluate import resolve_source
    from training.jobs.render import render
    from training.recipes import load_recipe

    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    loaded = load_recipe(recipe, overrides)
    click.echo(
        render(kind, loaded, lambda ref: resolve_source(ref, store, False), image=image, claim=claim, **cluster),
        nl=False,
    )


def run_recipe(
    settings: TrainingSettings, recipe: Path, overrides: Sequence[str], ship: bool = False, as_json: bool = False
) -> None:
    """Run a recipe and print what came of it."""
    from training.outcome import Context
    from training.recipes import METHODS, load_recipe

    loaded = load_recipe(recipe, overrides)
    method = METHODS[loaded.method]
    if ship and not loaded.method.startswith("guard-"):
        raise TrainingError(f"{recipe}: --ship is for the guard's recipes; serve this model by its name")
    store = open_registry(settings)
    is_main = os.environ.get("RANK", "0") == "0"
    context = Context(
        recipe_path=recipe,
        home=settings.home,
        registry=store,
        find_model=lambda ref: find_model(ref, store, settings, show_progress=is_main),
        ship=ship,
    )
    with sigterm_as_interrupt():
        outcome = method.run(loaded, context)
    if is_main:
        _print_outcome(outcome, loaded.name, as_json)


def _print_outcome(outcome: Outcome, name: str, as_json: bool) -> None:
    checkpoint = outcome.checkpoint
    if as_json:
        cost = outcome.cost
        made = {"ref": checkpoint.ref, "digest": checkpoint.digest, "path": str(checkpoint.path)} if checkpoint else {}
        result = {
            **made,
            **outcome.report,
            "seconds": cost.seconds,
            "tokens": cost.tokens,
            "peak_bytes": cost.peak_bytes,
        }
        click.echo(json.dumps(result))
        return
    click.echo(f"{checkpoint.ref if checkpoint else name}: {outcome.summary}; {outcome.cost}")
    for note in outcome.notes:
        click.echo(note)
