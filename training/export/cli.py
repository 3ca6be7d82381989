"""`signet export`. Imports nothing heavy before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from training.command import TrainingSettings, one_line_errors, open_registry

if TYPE_CHECKING:
    from training.export.folder import Export
    from training.export.to_gguf import Kind

FORMATS = ("gguf", "onnx", "web")
# As in `training.export.to_gguf`, which imports more than `--help` should.
KINDS = ("f32", "f16", "bf16", "q8_0")


@click.command()
@click.argument("ref")
@click.option(
    "--to", "format_name", type=click.Choice(FORMATS), required=True, help="For llama.cpp, ONNX Runtime, or a browser."
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder to create; default: ./NAME-VERSION-FORMAT.")
@click.option("--weights", type=click.Choice(KINDS), help="Format of weights in GGUF; default: the checkpoint's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@one_line_errors
def export(
    ctx: click.Context,
    ref: str,
    format_name: Literal["gguf", "onnx", "web"],
    output: Path | None,
    weights: Kind | None,
    as_json: bool,
) -> None:
    """Write a language model for llama.cpp, ONNX Runtime or browsers, and check that it gives the same answers.

    The folder also contains the checkpoint's signed manifest and a signed export.json with the digest of every file.

    Example: signet export smollm2-135m-instruct@1 --to gguf
    """
    from training.command import find_model, sigterm_as_interrupt
    from training.errors import TrainingError
    from training.export.folder import write_export

    if weights is not None and format_name != "gguf":
        raise TrainingError("--weights is for --to gguf: ONNX files hold fp32")
    settings: TrainingSettings = ctx.obj()
    store = open_registry(settings)
    source = find_model(ref, store, settings)
    if source.kind == "adapter":
        raise TrainingError(f"{ref} is an adapter: train with `output: merged`, and export that")
    target = output or Path(f"{Path(source.identity.ref).name.replace('@', '-')}-{format_name}")

    def write(folder: Path) -> dict[str, Any]:
        if format_name == "gguf":
            from training.export.to_gguf import write_gguf

            return write_gguf(source, folder, weights, show=True)
        if format_name == "web":
            from training.export.to_web import write_web

            return write_web(source, folder, settings.home / "cache" / "web", show=True)
        from training.export.to_onnx import write_onnx

        return write_onnx(source, folder, show=True)

    with sigterm_as_interrupt():
        _print(write_export(source, target, store.keys, format_name, write), as_json)


def _print(made: Export, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"path": str(made.path), "bytes": made.size, **made.facts}))
        return
    click.echo(f"{made.path}: {made.facts['checkpoint']} as {made.facts['format']}, {made.size / 1e6:.1f} MB")
    if made.facts["format"] == "gguf":
        click.echo(f"Run it: llama-cli -m {made.path}/model.gguf")
    if made.facts["format"] == "web":
        click.echo(f"Open it: python -m http.server --directory {made.path} 8080")
