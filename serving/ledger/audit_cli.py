"""`signet audit`: verify, anchor, list."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

import click
from sqlalchemy import select

from serving.database.command import LoadSettings, opened, operator
from serving.ledger.anchor import Head, anchor
from serving.ledger.anchors import expected_heads
from serving.ledger.audit import audit as audit_table
from serving.ledger.command import progress
from serving.ledger.receipt_check import local_receipt_keys
from serving.ledger.verify import Report, verify
from serving.provenance.receipts import ReceiptKeys, ReceiptKeysError


class _Settings(Protocol):
    """What these commands read of the settings tree, besides what opens the ledger."""

    @property
    def receipt_keys_file(self) -> Path: ...


@click.group()
def audit() -> None:
    """Verify the ledger's hash chains, note their heads, list administrative actions.

    Example: signet audit verify
    """


@audit.command(name="verify")
@click.option(
    "--expect", "anchors", multiple=True, metavar="ANCHOR", help="What `signet audit anchor` printed; repeatable."
)
@click.option(
    "--anchors", "anchor_file", type=click.File(), help="A file of anchors, a line each, signed or not; - for stdin."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_obj
def verify_command(
    load_settings: LoadSettings, anchors: tuple[str, ...], anchor_file: IO[str] | None, as_json: bool
) -> None:
    """Find records that were changed, removed, added or moved; exit 1 when there are any.

    Example: signet audit verify --anchors /mnt/other-machine/anchors
    """
    expected: dict[tuple[str, int], bytes] = {}
    for text in anchors:
        try:
            head = Head.parse(text)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not of the form CHAIN:NUMBER:HASH", param_hint="--expect") from None
        expected[head.chain, head.seq] = head.hash
    keys = _receipt_keys(load_settings)
    if anchor_file is not None:
        try:
            expected = expected_heads(anchor_file, {} if keys is None else keys.public(), expected)
        except ValueError as error:  # or the file is no text
            raise click.ClickException(f"{anchor_file.name}: {error}") from None
    with opened(load_settings) as engine, progress("verifying") as show:
        report = verify(engine, expected, show, keys)
    click.echo(json.dumps(asdict(report), indent=2) if as_json else _describe(report))
    if report.num_findings:
        sys.exit(1)


def _receipt_keys(load_settings: LoadSettings) -> ReceiptKeys | None:
    """The keys that receipts of this home are signed with; None: it has none."""
    settings: _Settings = load_settings()  # type: ignore[assignment]  # the tree has both
    try:
        return local_receipt_keys(settings.receipt_keys_file)
    except ReceiptKeysError as error:
        raise click.ClickException(str(error)) from None


def _describe(report: Report) -> str:
    lines = list(report.findings)
    if report.num_findings > len(lines):
        lines.append(f"… and {report.num_findings - len(lines)} more")
    outcome = "BROKEN" if report.num_findings else "the chains hold"
    counted = f"{report.num_requests} requests and {report.num_audits} administrative records"
    lines.append(f"{outcome}: {counted} in {report.num_chains} chains")
    if report.num_unchained:
        lines.append(f"{report.num_unchained} requests are older than the chains: nothing is known about them")
    if report.num_receipts or report.num_foreign_receipts:
        foreign = f"; {report.num_foreign_receipts} are signed by keys that are not here"
        lines.append(
            f"{report.num_receipts} requests were held against their receipts"
            + (foreign if report.num_foreign_receipts else "")
        )
    if not report.num_expected:
        lines.append(
            "no anchor was given: whoever can write to the whole database could have cut off or rewritten records and "
            "computed every hash anew (docs/explanation/receipts.md)"
        )
    return "\n".join(lines)


@audit.command(name="anchor")
@click.pass_obj
def anchor_command(load_settings: LoadSettings) -> None:
    """Record the heads of all chains, and print the record's own: note it where the database's owner cannot write.

    Example: signet audit anchor >> /mnt/other-machine/anchors
    """
    with opened(load_settings) as engine:
        click.echo(str(anchor(engine, operator())))


@audit.command(name="list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Newest records to show.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_obj
def list_command(load_settings: LoadSettings, limit: int, as_json: bool) -> None:
    """Show who did what to tenants, keys and settings, oldest first.

    Example: signet audit list --limit 10
    """
    columns = [audit_table.c[name] for name in ("event_id", "created_at", "actor", "action", "subject", "details")]
    with opened(load_settings) as engine, engine.connect() as connection:
        newest = connection.execute(select(*columns).order_by(audit_table.c.id.desc()).limit(limit)).all()[::-1]
    if as_json:
        rows = [{**row._mapping, "details": json.loads(row.details)} for row in newest]
        click.echo(json.dumps(rows, indent=2))
        return
    for row in newest:
        moment = datetime.fromtimestamp(row.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        details = "" if row.details == "{}" else row.details[:120]
        click.echo(f"{moment}  {row.actor}  {row.action}  {row.subject}  {details}".rstrip())
