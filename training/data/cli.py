"""`signet data`: build a data set from files, look at it as the model will, read its card."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.command import TrainingSettings, one_line_errors, open_registry
from training.errors import DataError, RecipeError

if TYPE_CHECKING:
    from training.data.show import Piece


@click.group()
def data() -> None:
    """Build data sets from files, show their records and cards."""


@data.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def build(ctx: click.Context, recipe: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Read, clean, de-duplicate and split files, and register the result as a data set.

    Takes a recipe of `method: data`. Training recipes can then name the data set instead of a file: data.train: NAME.

    Example: signet data build recipes/data-spam.yaml --set sources.path=SMSSpamCollection
    """
    from training.cli import run_recipe
    from training.recipes import load_recipe

    method = load_recipe(recipe, overrides).method
    if method != "data":
        raise RecipeError(f"{recipe}: method {method} builds no data: signet train {recipe}")
    run_recipe(ctx.obj(), recipe, overrides, as_json=as_json)


@data.command()
@click.argument("what")
@click.option("--model", required=True, help="Model whose tokenizer and chat template to use, as for `signet train`.")
@click.option("--number", type=click.IntRange(1), default=1, show_default=True, help="First record to show.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Number of records.")
@click.option("--max-tokens", type=click.IntRange(8), default=4096, show_default=True, help="Truncate records to this.")
@click.option("--json", "as_json", is_flag=True, help="Print tokens with their ids and labels as JSON lines.")
@click.pass_context
@one_line_errors
def show(ctx: click.Context, what: str, model: str, number: int, count: int, max_tokens: int, as_json: bool) -> None:
    """Show records of a file or a data set as the model sees them, and mark what it learns.

    Learned text is green on a terminal, and elsewhere between ⟦ and ⟧.

    Example: signet data show recipes/data/support-desk.jsonl --model smollm2-135m-instruct
    """
    from training.command import find_model
    from training.data.show import pieces_of
    from training.evaluate.loading import load_tokenizer

    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    path = _file(what, store)
    tokenizer = load_tokenizer(find_model(model, store, settings))
    shown = 0
    for source, pieces in pieces_of(path, tokenizer, max_tokens, number, count):
        shown += 1
        if as_json:
            tokens = [{"id": piece.token, "text": piece.text, "learned": piece.learned} for piece in pieces]
            click.echo(json.dumps({"source": source, "tokens": tokens}))
            continue
        learned = sum(piece.learned for piece in pieces)
        click.echo(f"{source}: {len(pieces)} tokens, {learned} learned")
        click.echo(_marked(pieces) + "\n")
    if not shown:
        raise DataError(f"{path}: has no record {number}")


@data.command()
@click.argument("ref", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
@click.pass_context
@one_line_errors
def card(ctx: click.Context, ref: str, as_json: bool) -> None:
    """Print a data set's card: sources, what each step dropped and why, samples, labels.

    Example: signet data card spam-messages
    """
    from training.data.card import CARD, card_text
    from training.data.sets import find_data_set

    store = open_registry(ctx.obj())
    checkpoint = find_data_set(Path(ref), store) or store.resolve(ref)
    store.verify(checkpoint)
    content = json.loads((checkpoint.path / CARD).read_text(encoding="utf-8"))
    if as_json:
        click.echo(json.dumps({"ref": checkpoint.ref, "digest": checkpoint.digest, **content}, ensure_ascii=False))
    else:
        click.echo(card_text(content).rstrip())


def _file(what: str, store: Any) -> Path:
    from training.data.sets import file_within, find_data_set

    path = Path(what)
    if path.exists():
        return path
    checkpoint = find_data_set(path, store)
    if checkpoint is None:
        raise DataError(f"{what}: there is no such file, and no such data set in the registry")
    store.verify(checkpoint)
    return file_within(path, checkpoint)


def _marked(pieces: list[Piece]) -> str:
    """The text, runs of learned tokens in green, or in brackets where colours are not shown."""
    colours = sys.stdout.isatty()
    parts = []
    for learned, run in groupby(pieces, key=lambda piece: piece.learned):
        text = "".join(piece.text for piece in run)
        if learned:
            text = click.style(text, fg="green", bold=True) if colours else f"⟦{text}⟧"
        parts.append(text)
    return "".join(parts)
