"""`signet registry`: what is there, whether it is what was signed, and which version is in production."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.command import one_line_errors, open_registry
from training.progress import track_bytes
from training.registry import AliasesChanged, AliasState, Checkpoint, CheckpointChanged, Registry

if TYPE_CHECKING:
    from training.evaluate.engine_agreement import Agreement

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
engine_options = (
    click.option(
        "--engine-url",
        metavar="URL",
        help="Also require that this engine computes the log-probabilities of the checkpoint's files.",
    ),
    click.option("--engine-key", envvar="SIGNET_GATEWAY__ENGINE_API_KEY", help="The engine's API key."),
)
alias_option = click.option("--alias", default="production", show_default=True, help="Alias to move.")


@click.group()
def registry() -> None:
    """List, show, verify and promote checkpoints.

    Example: signet registry list
    """


@registry.command(name="list")
@as_json_option
@click.pass_context
@one_line_errors
def list_checkpoints(ctx: click.Context, as_json: bool) -> None:
    """List all checkpoints. Reads manifests only; `verify` reads the files.

    Example: signet registry list --json
    """
    store = open_registry(ctx.obj())
    checkpoints = store.list()
    aliases = {name: _known_aliases(store, name) for name in sorted({_name(checkpoint) for checkpoint in checkpoints})}
    rows = [_summary(checkpoint, aliases[_name(checkpoint)]) for checkpoint in checkpoints]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        _print_table(rows)
    for error in store.unreadable():
        click.echo(f"Warning: {error}", err=True)


@registry.command()
@click.argument("ref")
@as_json_option
@click.pass_context
@one_line_errors
def show(ctx: click.Context, ref: str, as_json: bool) -> None:
    """Show a checkpoint's manifest: how and from what it was made.

    Example: signet registry show support-desk@2
    """
    store = open_registry(ctx.obj())
    checkpoint = store.resolve(ref)
    manifest = checkpoint.manifest.model_dump(mode="json")
    aliases = _aliases_of(checkpoint, _known_aliases(store, _name(checkpoint)))
    facts = {"ref": checkpoint.ref, "path": str(checkpoint.path), "aliases": aliases}
    click.echo(json.dumps({**facts, "manifest": manifest}, indent=None if as_json else 2, ensure_ascii=False))


@registry.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", required=True, help="Register under this name, as its next version.")
@click.option("--license", "license_", metavar="SPDX", help="Licence of the weights.")
@as_json_option
@click.pass_context
@one_line_errors
def import_folder(ctx: click.Context, folder: Path, name: str, license_: str | None, as_json: bool) -> None:
    """Register a copy of a language model that others made, so that engines can serve it.

    Weights must be *.safetensors. Checkpoints of AutoGPTQ and AutoAWQ are imported unchanged if vLLM reads them.

    Example: signet registry import ./Llama-2-7B-AWQ --name llama-2-7b-awq --license LLAMA2
    """
    from training.imported import import_model

    settings = ctx.obj()
    checkpoint = import_model(folder, name, license_, settings.home, open_registry(settings))
    if as_json:
        click.echo(json.dumps({"ref": checkpoint.ref, "digest": checkpoint.digest, "path": str(checkpoint.path)}))
        return
    click.echo(f"{checkpoint.ref}: imported from {folder}, {checkpoint.manifest.kind}")
    click.echo(f"Serve it:   signet serve --model {checkpoint.ref}")


@registry.command()
@click.argument("refs", nargs=-1)
@engine_options[0]
@engine_options[1]
@as_json_option
@click.pass_context
@one_line_errors
def verify(
    ctx: click.Context, refs: tuple[str, ...], engine_url: str | None, engine_key: str | None, as_json: bool
) -> None:
    """Check signatures and every byte of the named checkpoints, or of all and their aliases.

    --engine-url also checks that an engine that serves them computes the log-probabilities of their files.

    Example: signet registry verify support-desk@2
    """
    if engine_url and not refs:
        raise click.UsageError("name the checkpoints that the engine serves")
    store = open_registry(ctx.obj())
    failures: list[CheckpointChanged | AliasesChanged] = [] if refs else list(store.unreadable())
    checkpoints: list[Checkpoint] = [] if refs else list(store.list())
    for ref in refs:
        try:
            checkpoints.append(store.resolve(ref))
        except (CheckpointChanged, AliasesChanged) as error:
            failures.append(error)
    verified = []
    for checkpoint in checkpoints:
        try:
            with track_bytes(f"Verifying {checkpoint.ref}") as on_progress:
                store.verify(checkpoint, on_progress)
            verified.append(checkpoint)
        except CheckpointChanged as error:
            failures.append(error)
    for name in [] if refs else sorted({_name(checkpoint) for checkpoint in checkpoints}):
        try:
            store.aliases(name)
        except AliasesChanged as error:
            failures.append(error)
    agreements = {
        checkpoint.ref: _agreement(store, checkpoint.ref, engine_url, engine_key)
        for checkpoint in verified
        if engine_url
    }
    _report(verified, failures, agreements, as_json)
    if failures or not all(agreement.holds for agreement in agreements.values()):
        ctx.exit(1)


@registry.command()
@click.argument("ref")
@alias_option
@engine_options[0]
@engine_options[1]
@as_json_option
@click.pass_context
@one_line_errors
def promote(
    ctx: click.Context, ref: str, alias: str, engine_url: str | None, engine_key: str | None, as_json: bool
) -> None:
    """Verify a version and point its name to it.

    With --engine-url, this requires that an engine that serves it computes the log-probabilities of its files.

    Example: signet registry promote support-desk@2
    """
    name, _, version = ref.partition("@")
    if not version:
        raise click.ClickException(f"say which version of {name} to promote, as in {name}@1")
    store = open_registry(ctx.obj())
    checkpoint = store.resolve(ref)
    if engine_url:
        agreement = _agreement(store, checkpoint.ref, engine_url, engine_key)
        if not agreement.holds:
            raise click.ClickException(f"{checkpoint.ref} is not promoted: {agreement}")
    with track_bytes(f"Verifying {checkpoint.ref}") as on_progress:
        state = store.promote(name, checkpoint.manifest.version, alias, on_progress)
    _print_alias(name, alias, state, as_json)


@registry.command()
@click.argument("name")
@alias_option
@as_json_option
@click.pass_context
@one_line_errors
def rollback(ctx: click.Context, name: str, alias: str, as_json: bool) -> None:
    """Return an alias to the version that it had before.

    Example: signet registry rollback support-desk
    """
    state = open_registry(ctx.obj()).rollback(name, alias)
    _print_alias(name, alias, state, as_json)


@registry.command()
@click.argument("name")
@as_json_option
@click.pass_context
@one_line_errors
def sign_aliases(ctx: click.Context, name: str, as_json: bool) -> None:
    """Sign the aliases of a name as they stand.

    For those that an earlier version left unsigned, and after the signing key was replaced.

    Example: signet registry sign-aliases support-desk
    """
    states = open_registry(ctx.obj()).sign_aliases(name)
    if as_json:
        click.echo(json.dumps({"name": name, "aliases": {alias: state.version for alias, state in states.items()}}))
        return
    for alias, state in sorted(states.items()):
        click.echo(f"signed: {name}@{alias} is version {state.version}")
    if not states:
        click.echo(f"{name} has no aliases.")


def _summary(checkpoint: Checkpoint, aliases: Mapping[str, AliasState]) -> dict[str, Any]:
    manifest = checkpoint.manifest
    return {
        "ref": checkpoint.ref,
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.kind,
        "base": manifest.base.ref if manifest.base else None,
        "created": manifest.created,
        "bytes": sum(entry.size for entry in manifest.files.values()),
        "digest": checkpoint.digest,
        "aliases": _aliases_of(checkpoint, aliases),
        "path": str(checkpoint.path),
    }


def _name(checkpoint: Checkpoint) -> str:
    return checkpoint.path.parent.name


def _known_aliases(store: Registry, name: str) -> Mapping[str, AliasState]:
    """The aliases of a name; none, with a warning, where they do not verify."""
    try:
        return store.aliases(name)
    except AliasesChanged as error:
        click.echo(f"Warning: {error}", err=True)
        return {}


def _aliases_of(checkpoint: Checkpoint, aliases: Mapping[str, AliasState]) -> list[str]:
    return sorted(alias for alias, state in aliases.items() if str(state.version) == checkpoint.path.name)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        click.echo("The registry is empty.")
        return
    lines = [("CHECKPOINT", "KIND", "SIZE", "CREATED", "BASE", "ALIASES")]
    lines += [
        (
            row["ref"],
            row["kind"],
            f"{row['bytes'] / 1e6:.0f} MB",
            row["created"],
            row["base"] or "-",
            ", ".join(row["aliases"]) or "-",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _agreement(store: Registry, ref: str, engine_url: str, engine_key: str | None) -> Agreement:
    from training.evaluate import resolve_source
    from training.evaluate.engine_agreement import compare_with_engine  # imports torch

    return compare_with_engine(resolve_source(ref, store), engine_url, engine_key)


def _report(
    verified: Sequence[Checkpoint],
    failures: Sequence[CheckpointChanged | AliasesChanged],
    agreements: Mapping[str, Agreement],
    as_json: bool,
) -> None:
    if as_json:
        results: list[dict[str, Any]] = []
        for checkpoint in verified:
            agreement = agreements.get(checkpoint.ref)
            apart = {} if agreement is None else {"engine": asdict(agreement)}
            ok = agreement is None or agreement.holds
            results.append({"ref": checkpoint.ref, "ok": ok, "digest": checkpoint.digest, **apart})
        results += [{"ref": error.ref, "ok": False, "file": error.file, "why": error.why} for error in failures]
        click.echo(json.dumps(results))
        return
    for checkpoint in verified:
        click.echo(f"{checkpoint.ref} is as it was signed ({len(checkpoint.manifest.files)} files)")
        if checkpoint.ref in agreements:
            click.echo(f"{checkpoint.ref}: {agreements[checkpoint.ref]}", err=not agreements[checkpoint.ref].holds)
    for error in failures:
        click.echo(f"Error: {error}", err=True)


def _print_alias(name: str, alias: str, state: AliasState, as_json: bool) -> None:
    if as_json:
        facts = {"name": name, "alias": alias, "version": state.version, "ref": f"{name}@{state.version}"}
        click.echo(json.dumps({**facts, "previous": state.previous}))
    else:
        click.echo(f"{name}@{alias} is now version {state.version}")
