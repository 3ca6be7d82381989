"""`signet evaluate`: models measured, one on one file or several on several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.command import TrainingSettings, find_model, one_line_errors, open_registry
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.evaluate import Source
    from training.registry import Registry


@click.command()
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="FILE|SET",
    help="Text; JSONL of chats, texts, labels or pairs; or the held-out part of a data set, NAME[@VERSION].",
)
@click.option(
    "--matrix", "is_matrix", is_flag=True, help="Measure every model on every file, given as --data [NAME=]FILE."
)
@click.option(
    "--general",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --matrix: a general text, to measure what each model forgot since its base.",
)
@click.option("--max-tokens", type=click.IntRange(8), default=512, show_default=True, help="Truncate examples to this.")
@click.option(
    "--beside",
    multiple=True,
    metavar="REF|FILE",
    help="Compare a tokenizer with this model's, or with a file of tiktoken ranks.",
)
@click.option("--predictions", type=click.Path(path_type=Path), help="JSONL file to write a label for each text to.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def evaluate(
    ctx: click.Context,
    refs: tuple[str, ...],
    data: tuple[str, ...],
    is_matrix: bool,
    general: Path | None,
    max_tokens: int,
    beside: tuple[str, ...],
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Measure a checkpoint: a language model's perplexity, a classifier's F1, or an embedder's recall.

    For chats, perplexity covers the assistant's messages; for plain text or lines {"text": …} it covers everything,
    with bits per byte. A classifier takes lines {"text": …, "label": …} or {"text": …, "labels": […]}, an embedder
    {"query": …, "text": …}. A chat model on a classifier's lines is asked for the labels, and measured as a classifier
    is. For a tokenizer the measure is bytes per token, of plain text or chat messages.

    --matrix measures several models on several files, each by macro F1, recall@1 or bits per byte, with an interval.
    --general FILE adds the perplexity of that text before and after training.

    Example: signet evaluate support-desk@1 --data recipes/data/support-desk-heldout.jsonl
    """
    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    if is_matrix:
        if beside or predictions is not None:
            raise TrainingError("--matrix cannot be combined with --beside or --predictions")
        _print_matrix(refs, _named_files(data), general, max_tokens, store, settings, as_json)
        return
    if len(refs) > 1 or len(data) > 1 or general is not None:
        raise TrainingError("give one model and one --data file; for several, or --general, add --matrix")
    _evaluate_one(refs[0], Path(data[0]), max_tokens, beside, predictions, store, settings, as_json)


def _evaluate_one(
    ref: str,
    data: Path,
    max_tokens: int,
    beside: Sequence[str],
    predictions: Path | None,
    store: Registry,
    settings: TrainingSettings,
    as_json: bool,
) -> None:
    source = find_model(ref, store, settings)
    if beside and not source.is_tokenizer:
        raise TrainingError(f"{source.identity.ref} is not a tokenizer: --beside compares tokenizers")
    result: dict[str, Any] = {"ref": source.identity.ref, "digest": source.identity.digest, "data": str(data)}
    if not data.exists():
        from training.data.sets import find_heldout

        data, result["data"] = find_heldout(data, store)
    if source.is_tokenizer:
        ranks = {name: Path(name) for name in beside if Path(name).is_file()}
        others = {name: ranks.get(name) or find_model(name, store, settings).path for name in beside}
        figures, line = _measure_tokenizers(source, data, others)
        click.echo(json.dumps(result | figures) if as_json else line)
        return
    from training.data.texts import holds_labels, holds_texts
    from training.evaluate.measurement import measure_classifier, measure_embedder, measure_source
    from training.evaluate.retrieval import is_embedder

    answers = source.kind != "classifier" and not is_embedder(source) and holds_labels(data)
    if predictions is not None and source.kind != "classifier" and not answers:
        raise TrainingError(f"{source.identity.ref} names no labels of {data}: --predictions has nothing to write")
    if source.kind == "classifier" or answers:
        from training.evaluate.generative import measure_generative

        measure = measure_generative if answers else measure_classifier
        classified = measure(source, data, max_tokens, predictions)
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
        perplexity = chats.perplexity
        result |= {
            "data_sha256": chats.data_sha256,
            "perplexity": perplexity.value,
            "bits_per_byte": chats.bits_per_byte,
            "tokens": perplexity.tokens,
            "bytes": chats.num_bytes,
            "chats": perplexity.chats,
        }
        line = f"perplexity {perplexity.value:.3f} over {perplexity.tokens} tokens of {perplexity.chats} chats"
        if chats.bits_per_byte is not None:
            line += f", {chats.bits_per_byte:.3f} bits a byte"
    click.echo(json.dumps(result) if as_json else f"{source.identity.ref}: {line}")


def _named_files(data: Sequence[str]) -> dict[str, Path]:
    """Files by the names that they are given, or by their own."""
    files: dict[str, Path] = {}
    for source in data:
        label, equals, path = source.partition("=")
        name, file = (label, Path(path)) if equals and not Path(source).exists() else (Path(source).stem, Path(source))
        if name in files:
            raise TrainingError(f"--data {source}: another file is called {name!r} already: write NAME=FILE")
        files[name] = file
    return files


def _print_matrix(
    refs: Sequence[str],
    files: Mapping[str, Path],
    general: Path | None,
    max_tokens: int,
    store: Registry,
    settings: TrainingSettings,
    as_json: bool,
) -> None:
    from training.evaluate.matrix import Matrix, as_table

    matrix = Matrix(files, general, max_tokens, lambda ref: find_model(ref, store, settings))
    sources = [find_model(ref, store, settings) for ref in refs]
    rows = [matrix.row(source) for source in sources]
    if as_json:
        named = {name: str(path) for name, path in files.items()}
        result = {"data": named, "general": None if general is None else str(general)}
        click.echo(json.dumps({**result, "models": [row.as_json() for row in rows]}))
        return
    click.echo(as_table(rows))


def _measure_tokenizers(source: Source, data: Path, others: Mapping[str, Path]) -> tuple[dict[str, Any], str]:
    """Bytes per token of a tokenizer and of others: for `--json`, and as lines."""
    from training.data.texts import read_texts
    from training.evaluate.tokens import count_tokens, open_tokenizer

    file = read_texts(data)
    counts = {
        name: count_tokens(open_tokenizer(path), file.items)
        for name, path in [(source.identity.ref, source.path), *others.items()]
    }
    own, *rest = ({"ref": name, **row.figures()} for name, row in counts.items())
    lines = [
        f"{name}: {row.bytes_per_token:.3f} bytes a token, {row.tokens:,} tokens, vocabulary of {row.vocab_size:,}"
        for name, row in counts.items()
    ]
    return {**own, "data_sha256": file.sha256, "beside": rest}, "\n".join(lines)
