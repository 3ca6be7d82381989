"""`signet ledger`: usage, export, feedback, upgrade."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import cast

import click

from serving.database.command import LoadSettings, opened, reading
from serving.ledger.command import A_TIME, progress, unix_time
from serving.ledger.export import ExportError, export_csv, export_parquet
from serving.ledger.feedback import FeedbackFilter
from serving.ledger.feedback_export import SHAPES, Origins, Shape, feedback_lines
from serving.ledger.prices import NANOS_PER_DOLLAR
from serving.ledger.rollup import roll_up
from serving.ledger.usage import GROUPS, Group, RequestFilter, Usage, usage

Command = Callable[..., None]


def _span_options(command: Command) -> Command:
    for option in (
        click.option("--tenant", help="Only this tenant's requests."),
        click.option("--to", "until", type=A_TIME, help="Day or moment that is no longer counted, UTC."),
        click.option("--from", "since", type=A_TIME, help="First day, or moment (2026-11-01T12:00:00), UTC."),
    ):
        command = option(command)
    return command


@click.group()
def ledger() -> None:
    """Sum up usage, export requests and feedback, upgrade the database.

    Example: signet ledger usage --by tenant --by day
    """


@ledger.command(name="usage")
@click.option(
    "--by",
    "groups",
    type=click.Choice(GROUPS),
    multiple=True,
    default=("tenant",),
    show_default=True,
    help="What to sum up by; repeatable.",
)
@_span_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_obj
def usage_command(
    load_settings: LoadSettings,
    groups: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """Requests, tokens and cost, by tenant, key, model or day (UTC).

    Example: signet ledger usage --by tenant --by model --from 2026-11-01 --to 2026-12-01
    """
    by = tuple(cast("Group", group) for group in dict.fromkeys(groups))
    with reading(load_settings) as reader:
        sums = usage(reader, by, RequestFilter(unix_time(since), unix_time(until), tenant))
    if as_json:
        click.echo(json.dumps([_as_json(by, row) for row in sums], indent=2))
        return
    if not sums:
        click.echo("no requests yet")
        return
    header = (*by, "requests", "prompt tokens", "answer tokens", "cost $")
    lines = [(*row.group, *map(str, row[1:4]), dollars(row.cost_nanos)) for row in sums]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in (header, *lines):
        cells = [
            cell.ljust(width) if index < len(by) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _as_json(by: tuple[Group, ...], row: Usage) -> dict[str, object]:
    numbers = {name: getattr(row, name) for name in Usage._fields[1:]}
    return {**dict(zip(by, row.group, strict=True)), **numbers, "cost": dollars(row.cost_nanos)}


def dollars(nanos: int) -> str:
    """Exact decimal dollars."""
    return f"{nanos // NANOS_PER_DOLLAR}.{nanos % NANOS_PER_DOLLAR:09d}"


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--format", "kind", type=click.Choice(["csv", "parquet"]), help="Default: by the file's name, else csv.")
@_span_options
@click.pass_obj
def export(
    load_settings: LoadSettings,
    file: Path,
    kind: str | None,
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
) -> None:
    """Write requests to FILE, one row each, hashes included; `-` is standard output.

    Example: signet ledger export november.parquet --from 2026-11-01 --to 2026-12-01
    """
    selection = RequestFilter(unix_time(since), unix_time(until), tenant)
    kind = kind or ("parquet" if file.suffix == ".parquet" else "csv")
    try:
        with reading(load_settings) as reader, progress("exporting") as show:
            if kind == "csv":
                with click.open_file(str(file), "w", encoding="utf-8", atomic=str(file) != "-") as text:
                    count = export_csv(reader, selection, text, show)
            else:
                with click.open_file(str(file), "wb", atomic=str(file) != "-") as binary:
                    count = export_parquet(reader, selection, binary, show)
    except (ExportError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} requests in {file}", err=True)


@ledger.command(name="feedback")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--as",
    "shape",
    type=click.Choice(SHAPES),
    default="rows",
    show_default=True,
    help="Whole rows, or what `signet train` reads: preferences for dpo, chats for sft.",
)
@_span_options
@click.option("--model", help="Only answers of this model.")
@click.pass_obj
def feedback_command(
    load_settings: LoadSettings,
    file: Path,
    shape: Shape,
    since: datetime | None,
    until: datetime | None,
    tenant: str | None,
    model: str | None,
) -> None:
    """Write what users said of answers to FILE as JSON lines, with the version that gave each; `-` is standard output.

    Example: signet ledger feedback corrections.jsonl --as dpo --from 2026-11-01
    """
    selection = FeedbackFilter(tenant, model, unix_time(since), unix_time(until))
    count = 0
    try:
        with (
            opened(load_settings) as engine,
            click.open_file(str(file), "w", encoding="utf-8", atomic=str(file) != "-") as text,
        ):
            for line in feedback_lines(engine, selection, shape, Origins(load_settings().home)):
                text.write(line)
                count += 1
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} lines in {file}", err=True)


@ledger.command()
@click.pass_obj
def upgrade(load_settings: LoadSettings) -> None:
    """Bring the database's tables up to date now, while gateways of the release before go on.

    Example: signet ledger upgrade
    """
    with opened(load_settings, migrate="start") as engine:
        with progress("summing up usage") as show:
            roll_up(engine, show)
        click.echo("the database is up to date")
