"""`signet explain`: what a model reads and does, shown."""

from __future__ import annotations

import json
import os
import sys

import click

from training.command import TrainingSettings, one_line_errors, open_registry


@click.group()
def explain() -> None:
    """Show how a model reads a text."""


@explain.command("tokens")
@click.argument("text")
@click.option(
    "--model",
    "ref",
    default=None,
    help="A model or tokenizer: NAME[@VERSION] or a folder.  [default: the default model]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def tokens(ctx: click.Context, text: str, ref: str | None, as_json: bool) -> None:
    """Show a text's tokens: pieces, ids, bytes, and the order of merges. `-` reads standard input.

    Example: signet explain tokens 'The indemnitee shall…' --model smollm2-135m-instruct
    """
    from training.cli import DEFAULT_MODEL, find_model
    from training.evaluate.tokens import open_tokenizer
    from training.explain.tokens import explain_tokens

    settings: TrainingSettings = ctx.obj()
    # What a terminal hands over need not be UTF-8.
    content = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    text = content.decode(errors="replace")
    source = find_model(ref or DEFAULT_MODEL, open_registry(settings), settings)
    explained = explain_tokens(open_tokenizer(source.path), text)
    if as_json:
        words = explained.words
        result = {
            "ref": source.identity.ref,
            "text": text,
            "tokens": [piece.as_json() for piece in explained.pieces],
            "words": None if words is None else [word.as_json() for word in words],
        }
        click.echo(json.dumps(result))
        return
    from training.explain.tables import merges_table, pieces_table, print_table

    num_bytes = len(text.encode())
    click.echo(f"{source.identity.ref}: {len(explained.pieces)} tokens, {num_bytes} bytes")
    print_table(pieces_table(explained.pieces))
    for word in explained.words or ():
        print_table(merges_table(word))
