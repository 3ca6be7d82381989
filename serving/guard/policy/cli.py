"""`signet policy`: check a policy file, show what it says, and test it on cases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from serving.guard.policy.model import Principle
from serving.guard.policy.policy import Policy
from serving.guard.policy.reading import PolicyError, read_policy, read_yaml, require_classifiers
from serving.guard.settings import GuardSettings

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_policy = click.option(
    "--policy",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The policy file.  [default: guard.policy of the settings]",
)


class _Settings(Protocol):
    """What these commands read of the settings tree."""

    @property
    def guard(self) -> GuardSettings: ...


@click.group()
def policy() -> None:
    """Check, show and test the policy: principles that questions and answers must keep."""


@policy.command(epilog="Example: signet policy check policy.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@_as_json
@click.pass_context
def check(context: click.Context, file: Path, as_json: bool) -> None:
    """Check a policy file; exit with 1 and one line for each mistake where it cannot be used."""
    from serving.guard.classifiers import make_pool

    load_settings: Callable[[], _Settings] = context.obj
    try:
        opened = read_policy(file)
        require_classifiers(file, opened, make_pool(load_settings().guard.classifiers))
    except PolicyError as error:
        click.echo(json.dumps({"valid": False, "mistakes": error.problems}) if as_json else "\n".join(error.problems))
        context.exit(1)
    else:
        digest, count = opened.digest, len(opened.file.principles)
        said = f"{file} can be used: {count} principles, digest {digest}."
        click.echo(json.dumps({"valid": True, "principles": count, "digest": digest}) if as_json else said)


@policy.command(epilog="Example: signet policy show --policy policy.yaml")
@_policy
@_as_json
@click.pass_obj
def show(load_settings: Callable[[], _Settings], file: Path | None, as_json: bool) -> None:
    """Show the principles in their order, whom they concern and what follows."""
    opened = _open(file, load_settings)
    if as_json:
        shown = {"digest": opened.digest, **opened.file.model_dump(mode="json")}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    click.echo(f"digest {opened.digest}; refusals are told as an {opened.file.refusal}\n")
    for principle in opened.file.principles:
        click.echo(f"{principle.id:24} {principle.principle}\n{'':24} {_summary(principle)}")


@policy.command(epilog="Example: signet policy test cases.yaml --policy policy.yaml")
@click.argument("cases", type=click.Path(path_type=Path))
@_policy
@click.option(
    "--gateway-url", metavar="URL", help="A gateway that asks the judges; without it their cases are skipped."
)
@click.option("--key", envvar="SIGNET_KEY", help="API key for it, of a tenant that no principle concerns.")
@_as_json
@click.pass_context
def test(
    context: click.Context, cases: Path, file: Path | None, gateway_url: str | None, key: str | None, as_json: bool
) -> None:
    """Decide the cases of a file and compare with what they expect; exit with 1 where one comes out otherwise."""
    from serving.guard.classifiers import make_pool
    from serving.guard.guard import Guard
    from serving.guard.policy.cases import CaseFile, Judge, run_cases

    load_settings: Callable[[], _Settings] = context.obj
    opened = _open(file, load_settings)
    settings = load_settings().guard
    try:
        listed = read_yaml(cases, CaseFile).cases
    except PolicyError as error:
        raise click.ClickException(str(error)) from None
    if (gateway_url is None) != (key is None):
        raise click.UsageError("--gateway-url and --key go together.")
    judge = Judge(gateway_url, key) if gateway_url is not None and key is not None else None
    pool = make_pool(settings.classifiers)
    try:
        results = asyncio.run(run_cases(opened, listed, Guard(settings), pool, judge))
    finally:
        pool.close()
    rows = [
        {
            "name": result.case.name,
            "outcome": result.outcome,
            "expected": result.case.expect.model_dump(exclude_none=True),
            "decisions": [decision._asdict() for decision in result.decisions],
            "why": result.why,
        }
        for result in results
    ]
    click.echo(json.dumps(rows, indent=2) if as_json else _table(rows))
    if any(result.outcome == "not as expected" for result in results):
        context.exit(1)


def _open(file: Path | None, load_settings: Callable[[], _Settings]) -> Policy:
    file = file or load_settings().guard.policy
    if file is None:
        raise click.ClickException("no policy is set: give --policy FILE, or set guard.policy.")
    try:
        return read_policy(file)
    except PolicyError as error:
        raise click.ClickException(str(error)) from None


def _summary(principle: Principle) -> str:
    check = principle.check
    kind = next(
        name
        for name, values in (
            ("words", check.words),
            ("pattern", check.pattern),
            ("entity", check.entity),
            ("classifier", check.classifier),
            ("judge", check.judge),
        )
        if values
    )
    parts = [f"{principle.where}, {kind}: {principle.action}" + (" (dry run)" if principle.dry_run else "")]
    parts += [
        f"{name} {', '.join(values)}" for name in ("tenants", "models", "roles") if (values := getattr(principle, name))
    ]
    return "; ".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'case':40} {'outcome':16} {'expected':28} decided"]
    for row in rows:
        expected = _decided([{"principle": row["expected"].get("principle", ""), "action": row["expected"]["action"]}])
        decided = row["why"] or _decided(row["decisions"]) or "pass"
        lines.append(f"{row['name'][:40]:40} {row['outcome']:16} {expected:28} {decided}")
    counts = {
        name: sum(row["outcome"] == name for row in rows) for name in ("as expected", "not as expected", "skipped")
    }
    return "\n".join([*lines, "", ", ".join(f"{count} {name}" for name, count in counts.items())])


def _decided(decisions: Sequence[dict[str, str]]) -> str:
    return ", ".join(f"{decision['action']} {decision['principle']}".strip() for decision in decisions)
