"""`signet verify`: from a text to its receipt, the checkpoint that answered, its data and its base; offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.error import URLError
from urllib.request import urlopen

import click
import msgspec

from serving.database.command import LoadSettings, opened
from serving.ledger.command import progress
from serving.ledger.receipts import kept_receipt
from serving.provenance.receipts import (
    Check,
    NoStatement,
    NotSigned,
    Receipt,
    ReceiptKeys,
    ReceiptKeysError,
    Statement,
    are_alike,
    check_prompt,
    check_signature,
    check_tenant,
    check_text,
    contradiction,
    read_jwks,
    receipt_of,
    verified,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FETCH_TIMEOUT_S = 10
MAX_JWKS_BYTES = 1_000_000
_WORDS = {True: "ok", False: "NO", None: "--"}
_A_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
_A_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


class _Settings(Protocol):
    """What the command reads of the settings tree, besides what opens the ledger."""

    @property
    def home(self) -> Path: ...
    @property
    def receipt_keys_file(self) -> Path: ...


class _Given(NamedTuple):
    """A receipt, and what the ledger knows of it; None: its record there does not hold."""

    receipt: Receipt | None
    checks: list[Check]
    tenant: str | None = None


@click.command()
@click.argument("receipt", required=False)
@click.option("--text", "text_file", type=_A_FILE, help="A text to compare with the answer; - is standard input.")
@click.option("--prompt", "prompt_file", type=_A_FILE, help="The request's JSON, its messages, or a prompt as it is.")
@click.option("--tenant", help="Whose answer it is said to be.")
@click.option("--request-id", help="Take the receipt from the ledger.")
@click.option("--jwks", metavar="FILE|URL", help="The issuer's public keys.  [default: SIGNET_HOME's own]")
@click.option("--registry", type=_A_FOLDER, help="Where checkpoints lie.  [default: registry in SIGNET_HOME]")
@click.option(
    "--trusted-keys", type=_A_FOLDER, help="Whose signature on manifests is believed.  [default: keys in SIGNET_HOME]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(
    load_settings: LoadSettings,
    receipt: str | None,
    text_file: Path | None,
    prompt_file: Path | None,
    tenant: str | None,
    request_id: str | None,
    jwks: str | None,
    registry: Path | None,
    trusted_keys: Path | None,
    as_json: bool,
) -> None:
    """Check RECEIPT, and a text against it, down to the model and its data.

    RECEIPT is the header's value, or a file that holds it anywhere, such as a saved stream. Exits with 0 when signature
    and everything given hold, with 1 otherwise; what could not be checked is marked -- and named.

    Example: signet verify "$RECEIPT" --text answer.txt
    """
    settings: _Settings = load_settings()  # type: ignore[assignment]  # the tree has both
    subject = _given(load_settings, settings, receipt, request_id)
    if subject.receipt is None:
        _report(None, subject.checks, as_json)
        raise SystemExit(1)
    statement, signature = check_signature(subject.receipt, _public_keys(jwks, settings))
    checks = [signature, *subject.checks]
    if statement is not None:
        if request_id is not None and statement.jti != request_id:
            checks.append(Check("record", False, f"speaks of the request {statement.jti}"))
        checks += _compared(statement, subject.receipt.salts, text_file, prompt_file, tenant, subject.tenant)
        checks += _traced(statement, registry, settings.home / "registry", trusted_keys or settings.home / "keys")
    _report(statement, checks, as_json)
    raise SystemExit(0 if verified(checks) else 1)


def _given(load_settings: LoadSettings, settings: _Settings, receipt: str | None, request_id: str | None) -> _Given:
    if receipt is None and request_id is None:
        raise click.UsageError("Give a receipt, or --request-id.")
    shown = None if receipt is None else _parse(receipt)
    if request_id is None:
        assert shown is not None
        return _Given(shown, [])
    with opened(load_settings) as engine:
        kept = kept_receipt(engine, request_id)
    if kept is None:
        raise click.ClickException(f"the ledger has no receipt of {request_id!r}")
    if shown is not None and not are_alike(shown.signed, kept.record):
        return _Given(shown, [Check("record", False, "another receipt is on record for this request")], kept.tenant)
    try:
        on_record = shown or receipt_of(kept.record, _own_keys(settings), request_id)
    except (NotSigned, NoStatement) as error:
        return _Given(None, [Check("record", False, str(error))])
    return _Given(on_record, [Check("record", True, f"is on record in the ledger as {request_id}")], kept.tenant)


def _parse(text: str) -> Receipt:
    try:
        return Receipt.parse(text)
    except ValueError:
        pass
    path = Path(text)
    try:
        content = sys.stdin.read() if text == "-" else path.read_text(errors="replace")
        return Receipt.parse(content)
    except OSError:
        raise click.ClickException(f"{text[:80]!r} is neither a receipt nor a file") from None
    except ValueError:
        raise click.ClickException(f"there is no receipt in {text}") from None


def _own_keys(settings: _Settings) -> ReceiptKeys:
    try:
        return ReceiptKeys.open(settings.receipt_keys_file)
    except ReceiptKeysError as error:
        raise click.ClickException(f"{error}: give the issuer's keys with --jwks") from None


def _public_keys(jwks: str | None, settings: _Settings) -> Mapping[str, Ed25519PublicKey]:
    if jwks is None:
        return _own_keys(settings).public()
    try:
        if jwks.startswith(("http://", "https://")):
            with urlopen(jwks, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310 (nothing else is opened)
                content = response.read(MAX_JWKS_BYTES)
        else:
            content = Path(jwks).read_bytes()
        return read_jwks(content)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise click.ClickException(f"cannot read the keys at {jwks}: {reason}") from None
    except ValueError as error:
        raise click.ClickException(f"cannot read the keys at {jwks}: {error}") from None


def _compared(
    statement: Statement,
    salts: Mapping[str, bytes],
    text_file: Path | None,
    prompt_file: Path | None,
    tenant: str | None,
    recorded_tenant: str | None,
) -> list[Check]:
    checks = []
    if text_file is not None:
        checks.append(check_text(statement, salts, _read(text_file)))
    if prompt_file is not None:
        checks.append(check_prompt(statement, salts, _read(prompt_file)))
    stated_tenant = tenant if tenant is not None else recorded_tenant
    if stated_tenant is not None and (tenant is not None or "tenant" in salts):
        checks.append(check_tenant(statement, salts, stated_tenant))
    return checks


def _traced(statement: Statement, registry: Path | None, own: Path, trusted: Path) -> list[Check]:
    # The registry's package takes a moment to import.
    from serving.provenance.receipts.origin import trace
    from training.registry import Registry

    with progress("verifying") as show:
        known = Registry(registry or own, trusted)
        return list(trace(statement, known, registry is not None, lambda _, done, total: show(done, total)))


def _read(file: Path) -> str:
    try:
        return (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode()
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not text in UTF-8") from None


def _report(statement: Statement | None, checks: list[Check], as_json: bool) -> None:
    if as_json:
        claims = None if statement is None else msgspec.to_builtins(statement)
        rows = [check._asdict() for check in checks]
        click.echo(json.dumps({"verified": verified(checks), "checks": rows, "claims": claims}, indent=2))
        return
    for check in checks:
        click.echo(f"{check.subject:<9} {_WORDS[check.holds]}  {check.says}")
    for subject, says in _facts(statement) if statement is not None else ():
        click.echo(f"{subject:<9}     {says}")
    if (failed := contradiction(checks)) is not None:
        click.echo(f"NOT VERIFIED: {failed.subject}: {failed.says}")
        return
    subjects = ("text", "prompt", "model", "data", "base")
    unchecked = [name for name in subjects if not any(check.subject == name and check.holds for check in checks)]
    click.echo("VERIFIED" + (f"; not checked: {', '.join(unchecked)}" if unchecked else ""))


def _facts(statement: Statement) -> list[tuple[str, str]]:
    """What the receipt says besides: its issuer's word, that nothing here can confirm."""
    tokens = f"{statement.prompt_tokens} + {statement.completion_tokens} tokens"
    ended = f", ended by {statement.finish_reason}" if statement.finish_reason else ""
    went_on = f", continued {statement.continued} times" if statement.continued else ""
    mark = f"{statement.mark};key={statement.mark_key}" if statement.mark_key else statement.mark
    return [
        ("request", f"{statement.jti}: {statement.endpoint}, {statement.model}, {tokens}{ended}{went_on}"),
        ("policy", f"sha256:{statement.policy}"),
        ("mark", mark),
    ]
