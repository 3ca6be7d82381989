"""`signet quantize`. Imports nothing heavy before it runs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.command import TrainingSettings, one_line_errors, open_registry
from training.compress.schemes import FORM, Scheme, parse_scheme

if TYPE_CHECKING:
    from training.compress.compare import Comparison
    from training.compress.quantize import Outcome


def _scheme(ctx: click.Context, param: click.Parameter, value: str | None) -> Scheme | None:
    """A scheme by its name."""
    try:
        return None if value is None else parse_scheme(value.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _schemes(ctx: click.Context, param: click.Parameter, value: str | None) -> list[Scheme] | None:
    """Several, with commas between; each once."""
    if value is None:
        return None
    names = dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
    if not names:
        raise click.BadParameter("no scheme given")
    return [found for name in names if (found := _scheme(ctx, param, name)) is not None]


@click.command()
@click.argument("ref")
@click.option("--scheme", callback=_scheme, metavar="SCHEME", help=f"How to store weights: {FORM}.")
@click.option(
    "--compare",
    callback=_schemes,
    metavar="SCHEME,SCHEME…",
    help="Make a checkpoint with each scheme, and compare them.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="JSONL chats or plain text like the expected requests; default: built in.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Maximum number of windows of 256 tokens.",
)
@click.option(
    "--heldout",
    multiple=True,
    type=click.Path(path_type=Path),
    help="More JSONL chats or plain text to measure on (repeatable).",
)
@click.option(
    "--heldout-tokens",
    type=click.IntRange(min=2),
    default=16_384,
    show_default=True,
    help="Maximum number of tokens of each plain text to measure on, taken from all over it.",
)
@click.option(
    "--task",
    type=click.Path(path_type=Path),
    help="JSONL questions with choices; default: built in with --compare, else none.",
)
@click.option(
    "--engine/--no-engine",
    "with_engine",
    default=None,
    help="With --compare, also measure each in the engine (a minute or two each); default: if vLLM is installed.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="With --compare, the SVG file to write.")
@click.option("--name", help="Register under this name; default: the checkpoint's, then the scheme.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def quantize(
    ctx: click.Context,
    ref: str,
    scheme: Scheme | None,
    compare: list[Scheme] | None,
    calibration: Path | None,
    samples: int,
    heldout: tuple[Path, ...],
    heldout_tokens: int,
    task: Path | None,
    with_engine: bool | None,
    plot: Path | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Compress a registered checkpoint and register the result.

    w8a8 stores weights and computes in 8 bits: faster, with hardly any loss. gptq and awq store weights in 4 bits:
    smallest, with some loss; -asym adds a zero point to each group, -g32 makes groups smaller, -mixed keeps what
    rounding hurts most in 8 bits. The first run prepares the compressor's own environment (1.5 GB).

    --compare makes one checkpoint of each scheme, measured on the same texts, and prints a table with intervals.

    Example: signet quantize smollm2-135m-instruct@1 --scheme w8a8
    """
    from training.command import find_model, sigterm_as_interrupt
    from training.compress.compare import compare as run_all
    from training.compress.data import CALIBRATION, DataSelection
    from training.compress.quantize import Request
    from training.compress.quantize import quantize as run
    from training.compress.questions import QUESTIONS
    from training.compress.served import engine_is_installed, serve

    schemes = _wanted(scheme, compare, name, with_engine, plot)
    # After the options are checked: nothing is opened for a command that cannot run.
    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    source = find_model(ref, store, settings)
    selection = DataSelection(
        calibration or CALIBRATION, samples, heldout, heldout_tokens, task or (QUESTIONS if compare else None)
    )
    request = Request(schemes[0], selection, name)
    with sigterm_as_interrupt():
        if compare is None:
            _print_outcome(run(source, request, settings.home, store), as_json)
            return
        is_measured = engine_is_installed() if with_engine is None else with_engine
        log = settings.home / "logs" / "quantize-engine.log"
        in_engine = partial(serve, home=settings.home, log=log) if is_measured else None
        compared = run_all(source, schemes, request, settings.home, store, in_engine)
    where = plot or settings.home / "plots" / f"{source.identity.ref.replace('@', '-')}-quantized.svg"
    _print_comparison(compared, where, as_json)


def _wanted(
    scheme: Scheme | None,
    compare: list[Scheme] | None,
    name: str | None,
    with_engine: bool | None,
    plot: Path | None,
) -> list[Scheme]:
    if (scheme is None) is (compare is None):
        raise click.UsageError("choose --scheme for one scheme, or --compare for several")
    if compare is None:
        assert scheme is not None  # one of the two is there
        if with_engine is not None or plot is not None:
            raise click.UsageError("--engine and --plot are for --compare")
        return [scheme]
    if name is not None:
        raise click.UsageError("--name does not go with --compare, which names each after checkpoint and scheme")
    return compare


def _print_comparison(compared: Comparison, plot: Path, as_json: bool) -> None:
    from training.compress import compare

    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text(compare.as_plot(compared))
    if as_json:
        click.echo(json.dumps({**compare.as_json(compared), "plot": str(plot)}))
        return
    for line in [*compare.as_table(compared), *compared.unserved]:
        click.echo(line)
    click.echo(_measured_on(compared.first))
    click.echo(f"Plot: {plot}")


def _print_outcome(outcome: Outcome, as_json: bool) -> None:
    checkpoint, first = outcome.checkpoint, outcome.first
    if as_json:
        result = {
            "ref": checkpoint.ref,
            "digest": checkpoint.digest,
            "path": str(checkpoint.path),
            "parent": checkpoint.manifest.parents[0].ref,
            "settings": outcome.settings,
            "samples": outcome.samples,
            "perplexity_before": first.before,
            "perplexity_after": first.after,
            "heldout_tokens": first.tokens,
            "sets": {name: {"before": figures.before, **figures.figures()} for name, figures in outcome.sets.items()},
            "task": None if outcome.task is None else outcome.task.figures(),
            "bits_per_weight": outcome.bits,
            "bits_per_weight_whole": outcome.bits_whole,
            "bytes_before": outcome.bytes_before,
            "bytes_after": outcome.bytes_after,
            "seconds": outcome.cost.seconds,
            "tokens": outcome.cost.tokens,
            "peak_bytes": outcome.cost.peak_bytes,
        }
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{checkpoint.ref}: {outcome.bytes_after / 1e6:.0f} MB, was {outcome.bytes_before / 1e6:.0f} MB, "
        f"{outcome.bits:.2f} bits a weight; held-out perplexity {first.before:.2f} before, {first.after:.2f} after; "
        f"{outcome.cost}"
    )
    for name, change in list(outcome.sets.items())[1:]:
        click.echo(f"{name}: perplexity {change.before:.2f} before, {change.after:.2f} after, ÷ {change.ratio}")
    if outcome.task is not None:
        click.echo(f"Questions answered right: {outcome.task.before} before, {outcome.task.after} after")
    click.echo(_measured_on(outcome))
    click.echo(f"Serve it:   signet serve --model {checkpoint.ref}")
    click.echo(f"Promote it: signet registry promote {checkpoint.ref}")


def _measured_on(outcome: Outcome) -> str:
    name, first = next(iter(outcome.sets.items()))
    return f"Perplexity of {first.tokens:,} tokens of {name}, which were held out. Other texts give other values."
