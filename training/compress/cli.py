"""`signet quantize`. Imports nothing heavy before it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.command import TrainingSettings, measured_on, one_line_errors, open_registry

if TYPE_CHECKING:
    from training.compress.quantize import Outcome, Scheme

# As in `training.compress.quantize`, which imports more than `--help` should.
SCHEMES: tuple[Scheme, ...] = ("w8a8", "w4a16-gptq")


@click.command()
@click.argument("ref")
@click.option("--scheme", type=click.Choice(SCHEMES), help="How to store weights and activations.")
@click.option("--compare", metavar="SCHEME,SCHEME…", help="Make one of each scheme, and show them beside each other.")
@click.option(
    "--calibration", type=click.Path(path_type=Path), help="JSONL chats like those to come; default: built in."
)
@click.option(
    "--samples", type=click.IntRange(min=1), default=64, show_default=True, help="Windows of 256 tokens at most."
)
@click.option("--name", help="Register under this name; default: the checkpoint's, then the scheme.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def quantize(
    ctx: click.Context,
    ref: str,
    scheme: Scheme | None,
    compare: str | None,
    calibration: Path | None,
    samples: int,
    name: str | None,
    as_json: bool,
) -> None:
    """Compress a registered checkpoint and register the result.

    w8a8 stores weights in 8 bits and calculates in 8 bits: faster, hardly any loss. w4a16-gptq stores weights
    in 4 bits: smallest, some loss. The first run prepares the compressor's own environment (1.5 GB).

    --compare makes one checkpoint of each scheme, measured on the same chats, and prints a table.

    Example: signet quantize smollm2-135m-instruct@1 --scheme w8a8
    """
    from training.cli import find_model, sigterm_as_interrupt
    from training.compress.quantize import CALIBRATION, Request
    from training.compress.quantize import quantize as run

    schemes = _schemes(scheme, compare, name)
    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    source = find_model(ref, store, settings)
    made = []
    with sigterm_as_interrupt():
        for each in schemes:
            request = Request(each, calibration or CALIBRATION, samples, name)
            made.append(run(source, request, settings.home, store))
    if compare is None:
        _print_outcome(made[0], as_json)
    else:
        _print_comparison(source.identity.ref, schemes, made, as_json)


def _schemes(scheme: Scheme | None, compare: str | None, name: str | None) -> list[Scheme]:
    if (scheme is None) is (compare is None):
        raise click.UsageError("say which scheme: --scheme for one, --compare for several")
    if compare is None:
        assert scheme is not None  # one of the two is there
        return [scheme]
    if name is not None:
        raise click.UsageError("--name is for one scheme: with --compare each has the checkpoint's name and its own")
    wanted = list(dict.fromkeys(part.strip() for part in compare.split(",")))
    for part in wanted:
        if part not in SCHEMES:
            raise click.UsageError(f"--compare: {part!r} is none of {', '.join(SCHEMES)}")
    return [each for part in wanted for each in SCHEMES if each == part]


def _print_comparison(ref: str, schemes: Sequence[Scheme], made: Sequence[Outcome], as_json: bool) -> None:
    rows = [
        {
            "scheme": scheme,
            "ref": each.checkpoint.ref,
            "bytes": each.bytes_after,
            "perplexity": each.perplexity_after,
            "ratio": each.perplexity_after / each.perplexity_before,
            "settings": each.settings,
            "seconds": each.seconds,
        }
        for scheme, each in zip(schemes, made, strict=True)
    ]
    first = made[0]
    if as_json:
        whole = {"ref": ref, "bytes": first.bytes_before, "perplexity": first.perplexity_before}
        click.echo(json.dumps({**whole, "heldout_tokens": first.tokens, "schemes": rows}))
        return
    lines = [("", "MB", "perplexity", "÷", "checkpoint")]
    lines += [("as it is", f"{first.bytes_before / 1e6:.0f}", f"{first.perplexity_before:.2f}", "1.000", ref)]
    lines += [
        (
            scheme,
            f"{each.bytes_after / 1e6:.0f}",
            f"{each.perplexity_after:.2f}",
            f"{each.perplexity_after / each.perplexity_before:.3f}",
            each.checkpoint.ref,
        )
        for scheme, each in zip(schemes, made, strict=True)
    ]
    for scheme, size, perplexity, ratio, name in lines:
        click.echo(f"{scheme:<12} {size:>7} {perplexity:>11} {ratio:>6}  {name}")
    click.echo(measured_on(first.checkpoint.manifest))


def _print_outcome(outcome: Outcome, as_json: bool) -> None:
    checkpoint = outcome.checkpoint
    if as_json:
        result = {
            "ref": checkpoint.ref,
            "digest": checkpoint.digest,
            "path": str(checkpoint.path),
            "parent": checkpoint.manifest.parents[0].ref,
            "settings": outcome.settings,
            "samples": outcome.samples,
            "perplexity_before": outcome.perplexity_before,
            "perplexity_after": outcome.perplexity_after,
            "heldout_tokens": outcome.tokens,
            "bytes_before": outcome.bytes_before,
            "bytes_after": outcome.bytes_after,
            "seconds": outcome.seconds,
        }
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{checkpoint.ref}: {outcome.bytes_after / 1e6:.0f} MB, was {outcome.bytes_before / 1e6:.0f} MB; "
        f"held-out perplexity {outcome.perplexity_before:.2f} before, {outcome.perplexity_after:.2f} after; "
        f"{outcome.seconds:.0f} s"
    )
    click.echo(measured_on(checkpoint.manifest))
    click.echo(f"Serve it:   signet serve --model {checkpoint.ref}")
    click.echo(f"Promote it: signet registry promote {checkpoint.ref}")
