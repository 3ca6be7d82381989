"""`signet explain`: what a model reads and does, shown."""

from __future__ import annotations

import json
import os
import sys
from operator import attrgetter
from pathlib import Path

import click

from serving import DEFAULT_MODEL
from training.command import TrainingSettings, one_line_errors, open_registry


@click.group()
def explain() -> None:
    """Show a model's tokens and attention."""


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
    from training.command import find_model
    from training.evaluate.tokens import open_tokenizer
    from training.explain.tokens import explain_tokens

    settings: TrainingSettings = ctx.obj()
    text = _given(text)
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
    from training.explain.tokens import merges_table, pieces_table, print_table

    num_bytes = len(text.encode())
    click.echo(f"{source.identity.ref}: {len(explained.pieces)} tokens, {num_bytes} bytes")
    print_table(pieces_table(explained.pieces))
    for word in explained.words or ():
        print_table(merges_table(word))


@explain.command("attention")
@click.argument("text")
@click.option(
    "--model",
    "ref",
    default=None,
    help="A model of any kind: NAME[@VERSION] or a folder.  [default: the default model]",
)
@click.option("--layer", type=click.IntRange(0), help="Draw only this layer, counted from 0.")
@click.option("--head", type=click.IntRange(0), help="Draw only this head, counted from 0.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("attention.svg"),
    show_default=True,
    help="SVG file to write.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print where each head looks as JSON; for a single head, all weights."
)
@click.pass_context
@one_line_errors
def attention(
    ctx: click.Context, text: str, ref: str | None, layer: int | None, head: int | None, out: Path, as_json: bool
) -> None:
    """Draw a model's attention while it reads a text. `-` reads standard input.

    The SVG shows all heads as thumbnails, the heads of one layer with labels, or one head with every weight.

    Example: signet explain attention 'The cat sat because it was tired.' --layer 10 --out cat.svg
    """
    from training.command import find_model
    from training.explain.attention import choose, read_attention, require_folder
    from training.explain.attention_map import attention_map

    require_folder(out)
    settings: TrainingSettings = ctx.obj()
    source = find_model(ref or DEFAULT_MODEL, open_registry(settings), settings)
    read = read_attention(source, _given(text))
    chosen = choose(read, layer, head)
    out.write_text(attention_map(source.identity.ref, read, chosen))
    head_statistics = [head for head in read.head_statistics() if (head.layer, head.head) in chosen]
    if as_json:
        result = {"ref": source.identity.ref, "picture": str(out), "tokens": read.tokens}
        weights = {"weights": read.weights_ANLM[chosen[0]].tolist()} if len(chosen) == 1 else {}
        click.echo(json.dumps({**result, "heads": [head.as_json() for head in head_statistics], **weights}))
        return
    click.echo(f"{out}: {len(chosen)} heads of {source.identity.ref} over {len(read.tokens)} tokens")
    for name, said in (("first", "at the first token"), ("before", "at the token before"), ("itself", "at itself")):
        most = max(head_statistics, key=attrgetter(name))
        click.echo(f"looks most {said}: layer {most.layer}, head {most.head} ({getattr(most, name):.2f} of its weight)")


def _given(text: str) -> str:
    """A text of the command line, or what standard input holds; neither need be UTF-8."""
    content = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    return content.decode(errors="replace")
