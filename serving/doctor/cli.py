"""`signet doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from serving.doctor.finding import Check, NotChecked, error
from serving.errors import SettingsError


@click.command(epilog="Example: signet doctor --json")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file.  [default: signet.yaml when there]")
@click.option("--namespace", help="Look at the live objects of the release in this namespace of a cluster instead.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="Credentials for that.  [default: KUBECONFIG, the pod's own, or ~/.kube/config]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def doctor(
    load_settings: Callable[..., Any],
    config: Path | None,
    namespace: str | None,
    kubeconfig: Path | None,
    as_json: bool,
) -> None:
    """Say what of this installation does not work, or soon will not.

    Reads the settings and everything that they name: files, ports, home, keys, model, database, Redis, engines and
    other servers. With --namespace it looks at a cluster instead: pods, autoscalers, DNS and network policies, volumes,
    checkpoints, monitors. Changes nothing and shows no secret.

    Exit code: 0 no problem, 1 problems, 2 wrong usage.
    """
    # Imported here: `signet doctor --help` need not wait for it.
    from serving.doctor.examine import examine
    from serving.doctor.report import json_report, text_report

    with ExitStack() as stack:
        outside = namespace is not None or kubeconfig is not None
        checks = _cluster(kubeconfig, namespace, stack) if outside else _local(load_settings, config)
        with click.progressbar(length=len(checks), label="examining", file=sys.stderr) as bar:
            outcomes = examine(checks, on_done=lambda done, _: bar.update(done - bar.pos))
    if as_json:
        click.echo(json.dumps(json_report(outcomes), indent=2))
    else:
        for line in text_report(outcomes):
            click.echo(line)
    if any(outcome.findings for outcome in outcomes):
        raise click.exceptions.Exit(1)


def _local(load_settings: Callable[..., Any], config: Path | None) -> list[Check]:
    from serving.doctor.local import local_checks

    try:
        return local_checks(load_settings(config))
    except SettingsError as reason:
        why = "no command starts, and a running gateway keeps its old settings"
        return [Check("settings", partial(iter, [error(str(reason).rstrip("."), why, "correct it")]))]


def _cluster(kubeconfig: Path | None, namespace: str | None, stack: ExitStack) -> list[Check]:
    from serving.doctor.cluster.api import ClusterApi
    from serving.doctor.cluster.checks import cluster_checks

    try:
        return cluster_checks(stack.enter_context(ClusterApi(kubeconfig, namespace)))
    except NotChecked as reason:
        why, fix = "nothing in the cluster can be looked at", "name a kubeconfig with --kubeconfig"
        return [Check("cluster", partial(iter, [error(str(reason), why, fix)]))]
