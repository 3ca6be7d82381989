"""`signet redteam`: attack a served model, and read what came of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import click

from training.command import one_line_errors
from training.redteam.errors import SuiteError, TargetError
from training.redteam.report import as_lines, read_report
from training.redteam.target import Target

EXIT_ABOVE_GATE = 3
EXIT_INTERRUPTED = 130

key_option = click.option(
    "--key", envvar="OPENAI_API_KEY", show_envvar=True, help="API key of the target; it is written nowhere."
)
out_option = click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("redteam"), show_default=True,
    help="Folder for report.json, report.html and attempts.jsonl.",
)  # fmt: skip
seed_option = click.option("--seed", default=0, show_default=True, help="Draws canaries, order and sample.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, without examples.")
gate_option = click.option(
    "--fail-above", type=click.FloatRange(0, 1), metavar="SHARE",
    help="Exit with 3 when more of the attacks on the first target get through, or more of the harmless is refused.",
)  # fmt: skip


@click.group()
def redteam() -> None:
    """Attack a served model with and without the guard, and count needless refusals.

    Example: signet redteam run --url http://127.0.0.1:8000/v1 --model smollm2-135m-instruct
    """


@redteam.command()
@click.option("--url", required=True, help="The target, up to /v1.")
@click.option("--model", required=True, help="The target's model.")
@click.option("--name", default="guarded", show_default=True, help="Name of the target in the report.")
@key_option
@click.option("--compare-url", help="A second target for the same prompts, such as the engine without the gateway.")
@click.option("--compare-model", help="Name of its model.  [default: the first target's]")
@click.option("--compare-name", default="unguarded", show_default=True, help="Name of the second target in the report.")
@click.option("--compare-key", help="Its API key.")
@click.option(
    "--suite", "suites", multiple=True, metavar="NAME|FILE", help="Suite to run (repeatable).  [default: most]"
)
@click.option(
    "--mutators", metavar="A,B+C", help="Disguises of prompts; + combines several.  [default: each suite's own]"
)
@click.option("--limit", type=click.IntRange(1), help="Maximum number of attempts per suite and target.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at once.")
@click.option("--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="Length of answers.")
@click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds for an answer.")
@click.option("--judge-url", help="A model that judges whether harmful requests were complied with.")
@click.option("--judge-model", help="Name of the judging model.")
@click.option("--judge-key", help="Its API key.")
@click.option("--show-examples", is_flag=True, help="Keep prompts and answers, and show them in the report.")
@click.option("--resume", is_flag=True, help="Continue the run in --out, and retry failures.")
@seed_option
@gate_option
@out_option
@json_option
@click.pass_context
@one_line_errors
def run(ctx: click.Context, /, **options: Any) -> None:
    """Run attack suites and write a report.

    Exits with 0 when done, 1 if a target failed, 3 above --fail-above, and 130 after Ctrl-C, with a partial report.

    Example: signet redteam run --url http://127.0.0.1:8000/v1 --model smollm2-135m-instruct --suite override --limit 50
    """
    from training.command import sigterm_as_interrupt
    from training.redteam.session import Session

    session = Session.prepare(options)
    failure: TargetError | None = None
    interrupted = False
    try:
        with sigterm_as_interrupt():
            session.carry_out()
    except TargetError as error:
        failure = error
    except KeyboardInterrupt:
        interrupted = True
        # Supervisors and people send it twice: the report is written all the same.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = session.report(complete=not failure and not interrupted)
    write_report(report, options["out"])
    print_report(report, options["as_json"], options["out"])
    if failure:
        raise failure
    if interrupted:
        ctx.exit(EXIT_INTERRUPTED)
    if is_above(report, options["fail_above"]):
        ctx.exit(EXIT_ABOVE_GATE)


@redteam.command(name="list")
@json_option
@one_line_errors
def list_suites(as_json: bool) -> None:
    """List the suites and the mutators.

    Example: signet redteam list
    """
    from training.redteam.mutators import MUTATORS, describe
    from training.redteam.suite import load_suite, packaged_suites

    suites = [load_suite(name) for name in packaged_suites()]
    if as_json:
        listed = [{"name": each.name, "prompts": len(each.cases), "about": each.about} for each in suites]
        click.echo(json.dumps({"suites": listed, "mutators": {name: describe(name) for name in MUTATORS}}))
        return
    for suite in suites:
        click.echo(f"{suite.name:16} {len(suite.cases):3}  {suite.about}")
    click.echo()
    for name in MUTATORS:
        click.echo(f"{name:20} {describe(name)}")


@redteam.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the page to this file.")
@gate_option
@json_option
@click.pass_context
@one_line_errors
def report(ctx: click.Context, file: Path, html: Path | None, fail_above: float | None, as_json: bool) -> None:
    """Show a report, or write its page again.

    Example: signet redteam report redteam/report.json --html page.html
    """
    from training.redteam.page import render_page

    loaded = read_report(file)
    if html:
        html.write_text(render_page(loaded))
    print_report(loaded, as_json, None)
    if is_above(loaded, fail_above):
        ctx.exit(EXIT_ABOVE_GATE)


@redteam.command()
@click.option("--url", help="The target, up to /v1.")
@click.option("--model", default="", help="Name of the target's model.")
@click.option("--probes", metavar="A,B", help="garak's probes.  [default: injection, jailbreak and encoding]")
@click.option(
    "--limit", type=click.IntRange(1), help="Maximum number of prompts per probe, for probes that support it."
)
@click.option("--answers", type=click.IntRange(1), default=1, show_default=True, help="Answers per prompt.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at once.")
@click.option("--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="Length of answers.")
@click.option(
    "--read", type=click.Path(dir_okay=False, path_type=Path), help="Read this garak report instead of running garak."
)
@key_option
@seed_option
@gate_option
@out_option
@json_option
@click.pass_context
@one_line_errors
def garak(ctx: click.Context, /, **options: Any) -> None:
    """Run garak, if it is installed, and convert its report.

    Example: signet redteam garak --url http://127.0.0.1:8000/v1 --model smollm2-135m-instruct --probes dan
    """
    from training.redteam.garak import DEFAULT_PROBES, GarakRun, read_garak_log, run_garak

    out: Path = options["out"]
    if options["read"]:
        made = read_garak_log(
            options["read"], {"name": "target", "url": options["url"] or "-", "model": options["model"] or "-"}
        )
    elif options["url"] and options["model"]:
        target = Target("target", options["url"], options["model"], options["key"], max_tokens=options["max_tokens"])
        out.mkdir(parents=True, exist_ok=True)
        probes = options["probes"] or DEFAULT_PROBES
        run = GarakRun(probes, options["seed"], options["concurrency"], options["answers"], options["limit"])
        made = run_garak(target, run, out)
    else:
        raise SuiteError("say what to attack with --url and --model, or which report to --read")
    write_report(made, out)
    print_report(made, options["as_json"], out)
    if is_above(made, options["fail_above"]):
        ctx.exit(EXIT_ABOVE_GATE)


def write_report(report: dict[str, Any], out: Path) -> None:
    """report.json and report.html; for the owner alone, since examples may be in them."""
    from training.redteam.page import render_page

    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", json.dumps(report, indent=2)), ("report.html", render_page(report))):
        path = out / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")


def print_report(report: dict[str, Any], as_json: bool, out: Path | None) -> None:
    """For a person or a program; examples are in the files alone."""
    if as_json:
        click.echo(json.dumps({**report, "examples": []}))
        return
    for line in as_lines(report):
        click.echo(line)
    if out:
        click.echo(f"\n{out / 'report.html'}")


def is_above(report: dict[str, Any], gate: float | None) -> bool:
    """Whether the first target fails a gate; nothing measured fails it too."""
    if gate is None:
        return False
    total = report["totals"][0]
    attacks, refusals = total["attacks"]["rate"], total["over_refusal"]["rate"]
    if attacks is None and refusals is None:
        return True
    return max(attacks or 0.0, refusals or 0.0) > gate
