"""Every panel of every dashboard has data: a real Prometheus scrapes a gateway and an engine under load.

    python -m loadtests.tools.with_stack python -m loadtests.benchmarks.dashboards --engine-url {engine} \\
        --model-folder {model_folder} --pictures docs/guides/dashboards

The targets have the labels that an operator gives them. Exits 1 when a query has no data. `--pictures` draws the panels
with what their own queries answer.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click

from loadtests.tools.panels import asked, picture
from loadtests.tools.watched import watched
from monitoring.dashboards import DASHBOARDS


@click.command()
@click.option("--engine-url", required=True, help="An engine that Signet started, without a key.")
@click.option("--model-folder", required=True, type=click.Path(path_type=Path), help="Its checkpoint in a registry.")
@click.option("--seconds", default=120.0, show_default=True, help="How long it is under load.")
@click.option("--pictures", type=click.Path(path_type=Path), help="A folder for a picture of each dashboard.")
def main(engine_url: str, model_folder: Path, seconds: float, pictures: Path | None) -> None:
    """Ask every query of every panel, and say which has no data."""
    model, registry = model_folder.parent.name, model_folder.parent.parent
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for part in (registry, registry.parent / "keys"):
            shutil.copytree(part, home / part.name)
        for keyring in registry.parent.glob("keyring.json"):
            shutil.copy(keyring, home)
        with watched(home, engine_url, model, seconds, {}) as (prometheus, started, ended):
            for name, dashboard in DASHBOARDS.items():
                drawn, empty = asked(dashboard, prometheus, started, ended, "10s")
                missing += empty
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    (pictures / f"{name}.svg").write_text(picture(dashboard, drawn))
    num_queries = sum(len(panel.queries) for dashboard in DASHBOARDS.values() for panel in dashboard.panels)
    click.echo(f"{num_queries - len(missing)} of {num_queries} queries have data")
    for each in missing:
        click.echo(f"  no data: {each}")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
