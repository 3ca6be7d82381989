"""`signet quantize`. Imports nothing heavy before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.command import TrainingSettings, measured_on, one_line_errors, open_registry

if TYPE_CHECKING:
    from training.compress.quantize import Outcome, Scheme

# As in `training.compress.quantize`, which imports more than `--help` should.
SCHEMES = ("w8a8", "w4a16-gptq")


@click.command()
@click.argument("ref")
@click.option("--scheme", type=click.Choice(SCHEMES), required=True, help="How to store weights and activations.")
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
    scheme: Scheme,
    calibration: Path | None,
    samples: int,
    name: str | None,
    as_json: bool,
) -> None:
    """Compress a registered checkpoint and register the result.

    w8a8 stores weights in 8 bits and calculates in 8 bits: faster, hardly any loss. w4a16-gptq stores weights
    in 4 bits: smallest, some loss. The first run prepares the compressor's own environment (1.5 GB).

    Example: signet quantize smollm2-135m-instruct@1 --scheme w8a8
    """
    from training.cli import find_model, sigterm_as_interrupt
    from training.compress.quantize import CALIBRATION, Request
    from training.compress.quantize import quantize as run

    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    request = Request(scheme, calibration or CALIBRATION, samples, name)
    with sigterm_as_interrupt():
        outcome = run(find_model(ref, store, settings), request, settings.home, store)
    _print_outcome(outcome, as_json)


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
