"""`signet doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from serving.errors import SettingsError


@click.command(epilog="Example: signet doctor --json")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.  [default: signet.yaml when there]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def doctor(load_settings: Callable[..., Any], config: Path | None, as_json: bool) -> None:
    """Say what of this installation does not work, or soon will not.

    Reads the settings and everything that they name: files, ports, home, keys, model, database, Redis, engines and
    other servers. Changes nothing and shows no secret.

    Exit code: 0 no problem, 1 problems, 2 wrong usage.
    """
    # Imported here: `signet doctor --help` need not wait for it.
    from serving.doctor.examine import Outcome, examine
    from serving.doctor.finding import error
    from serving.doctor.local import local_checks
    from serving.doctor.report import json_report, text_report

    try:
        checks = local_checks(load_settings(config))
    except SettingsError as reason:
        wrong = error(
            str(reason).rstrip("."), "no command starts, and a running gateway keeps its old settings", "correct it"
        )
        outcomes = [Outcome("settings", [wrong])]
    else:
        with click.progressbar(length=len(checks), label="examining", file=sys.stderr) as bar:
            outcomes = examine(checks, on_done=lambda done, _: bar.update(done - bar.pos))
    if as_json:
        click.echo(json.dumps(json_report(outcomes), indent=2))
    else:
        for line in text_report(outcomes):
            click.echo(line)
    if any(outcome.findings for outcome in outcomes):
        raise click.exceptions.Exit(1)
