"""The training commands: train, evaluate, registry, and quantize, which lives in `training.compress`.

Nothing heavy is imported before a command runs: `--help` answers at once, also where torch is not installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from training.command import TrainingSettings, one_line_errors, open_registry
from training.encoder import NAME as ENCODER
from training.encoder import prepare_encoder
from training.errors import TrainingError
from training.registry import Registry, UnknownCheckpoint
from training.registry_cli import registry

if TYPE_CHECKING:
    from training.evaluate import Source
    from training.outcome import Outcome

__all__ = ["evaluate", "registry", "train"]  # and `quantize` and `data`, by `__getattr__`

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
    run_recipe(ctx.obj(), recipe, overrides, ship, as_json)


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


@click.command()
@click.argument("ref")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Text, or JSONL: chats, texts, labels, pairs.",
)
@click.option("--max-tokens", type=click.IntRange(8), default=512, show_default=True, help="Longer ones are cut here.")
@click.option(
    "--beside", multiple=True, metavar="REF|FILE", help="Compare a tokenizer with this one's, or with tiktoken ranks."
)
@click.option("--predictions", type=click.Path(path_type=Path), help="Write a classifier's answers there, as JSONL.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def evaluate(
    ctx: click.Context,
    ref: str,
    data: Path,
    max_tokens: int,
    beside: tuple[str, ...],
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Measure a checkpoint: a language model's perplexity, how a classifier names texts, how an embedder finds them.

    On chats, perplexity is over what the assistant says; on plain text or lines {"text": …}, over all of it, with bits
    per byte. A classifier takes lines {"text": …, "label": …} or {"text": …, "labels": […]}, an embedder {"query": …,
    "text": …}. A tokenizer gets bytes per token, over plain text or what is said in chats.

    Example: signet evaluate support-desk@1 --data recipes/data/support-desk-heldout.jsonl
    """
    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    source = find_model(ref, store, settings)
    if beside and not source.is_tokenizer:
        raise TrainingError(f"{source.identity.ref} is no tokenizer: --beside compares those")
    if predictions is not None and source.kind != "classifier":
        raise TrainingError(f"{source.identity.ref} is no classifier: --predictions has nothing to write")
    result: dict[str, Any] = {"ref": source.identity.ref, "digest": source.identity.digest, "data": str(data)}
    if source.is_tokenizer:
        ranks = {name: Path(name) for name in beside if Path(name).is_file()}
        others = {name: ranks.get(name) or find_model(name, store, settings).path for name in beside}
        figures, line = _measure_tokenizers(source, data, others)
        click.echo(json.dumps(result | figures) if as_json else line)
        return
    from training.data.texts import holds_texts
    from training.evaluate.measurement import measure_classifier, measure_embedder, measure_source
    from training.evaluate.retrieval import is_embedder

    if source.kind == "classifier":
        classified = measure_classifier(source, data, max_tokens, predictions)
        result |= {"data_sha256": classified.data_sha256, **classified.measured.figures()}
        line = str(classified.measured)
    elif is_embedder(source):
        retrieved = measure_embedder(source, data, max_tokens)
        result |= {"data_sha256": retrieved.data_sha256, **retrieved.measured.figures()}
        line = str(retrieved.measured)
    elif holds_texts(data):
        from training.evaluate.texts import measure_texts

        text = measure_texts(source, data, max_tokens)
        result |= {"data_sha256": text.data_sha256, **text.figures()}
        line = str(text)
    else:
        chats = measure_source(source, data, max_tokens)
        found = chats.perplexity
        result |= {
            "data_sha256": chats.data_sha256,
            "perplexity": found.value,
            "bits_per_byte": chats.bits_per_byte,
            "tokens": found.tokens,
            "bytes": chats.num_bytes,
            "chats": found.chats,
        }
        line = f"perplexity {found.value:.3f} over {found.tokens} tokens of {found.chats} chats"
        if chats.bits_per_byte is not None:
            line += f", {chats.bits_per_byte:.3f} bits a byte"
    click.echo(json.dumps(result) if as_json else f"{source.identity.ref}: {line}")


def _measure_tokenizers(source: Source, data: Path, others: Mapping[str, Path]) -> tuple[dict[str, Any], str]:
    """Bytes per token of a tokenizer and of others: for `--json`, and as lines."""
    from training.data.texts import read_texts
    from training.evaluate.tokens import count_tokens, open_tokenizer

    file = read_texts(data)
    counts = {
        name: count_tokens(open_tokenizer(path), file.documents)
        for name, path in [(source.identity.ref, source.path), *others.items()]
    }
    own, *rest = ({"ref": name, **count.figures()} for name, count in counts.items())
    lines = [
        f"{name}: {each.bytes_per_token:.3f} bytes a token, {each.tokens:,} tokens, vocabulary of {each.vocab_size:,}"
        for name, each in counts.items()
    ]
    return {**own, "data_sha256": file.sha256, "beside": rest}, "\n".join(lines)


def find_model(ref: str, store: Registry, settings: TrainingSettings, show_progress: bool = True) -> Source:
    """The verified model behind a reference; the default one is prepared where it is missing."""
    from training.evaluate import resolve_source

    try:
        return resolve_source(ref, store, show_progress)
    except UnknownCheckpoint:
        name = ref.partition("@")[0]
        if name not in (DEFAULT_MODEL, ENCODER) or store.has(name):
            raise
    if name == ENCODER:
        prepare_encoder(store, settings.home / "cache", show_progress)
    else:
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


def __getattr__(name: str) -> Any:
    if name == "quantize":
        from training.compress.cli import quantize

        return quantize
    if name == "data":
        from training.data.cli import data

        return data
    raise AttributeError(name)
