"""Break real processes, and wait until a real Alertmanager tells of it: gateway, engine, settings.

    python -m loadtests.faults.live_alerts [--speed 15] [--out docs/benchmarks/alerts.md]

A gateway under load in front of a stand-in engine, scraped with an operator's labels. What `loadtests.faults.alerts`
changes in series happens here: the metrics say what they should when things really break. Windows and waiting times of
the rules are `--speed` times as short. Exits 1 when an alert is missing, or one comes before anything broke.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from loadtests.faults.alerts import SETTLE_S, Told, rules_of, served
from loadtests.tools.processes import running
from loadtests.tools.prometheus import Target, operator_labels, running_alertmanager, running_prometheus
from loadtests.tools.targets import free_port, signet_gateway
from loadtests.tools.watched import ask
from training.studies.sections import write_section

NAMESPACE = "signet"
HEALTHY_MIN = 5.0
# The slowest waits ten minutes, after windows of as many.
PATIENCE_MIN = 25.0


@dataclass(frozen=True)
class Step:
    """Something that breaks for good, and the alerts that it has to raise."""

    what: str
    break_it: Callable[[], object]
    alerts: tuple[str, ...]


@contextmanager
def asking(url: str, key: str) -> Iterator[None]:
    """Four clients ask for long streams until the end; what fails is what this is about."""
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                ask(url, key, "standin", "Tell me a story.", stream=True, max_tokens=100)
            except OSError:
                stop.wait(0.2)

    clients = [threading.Thread(target=client, daemon=True) for _ in range(4)]
    for each in clients:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in clients:
            each.join(10)


def run(speed: float) -> list[tuple[str, str, float | None]]:
    """Break one thing after the other; (what broke, alert, seconds of the rules' own time until told).

    Raises:
        RuntimeError: an alert came before anything broke.
    """
    told, started = Told(), time.time()
    results: list[tuple[str, str, float | None]] = []
    port = free_port()
    engine_url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="signet-live-") as name,
        served([], told, started) as hook,
        running_alertmanager(folder := Path(name), f"http://{hook}/") as manager,
    ):
        settings = folder / "signet.yaml"
        settings.write_text(yaml.safe_dump({"gateway": {"reload_interval_s": 0.2, "probe_interval_s": 0.2}}))
        target = signet_gateway(engine_url, folder)
        key = target.headers["authorization"].removeprefix("Bearer ")
        standin = [sys.executable, "-m", "loadtests.tools.standin", "--port", str(port), "--step-ms", "20"]
        addresses = {
            "signet-gateway": target.url.removeprefix("http://"),
            "signet-engine-chat": f"127.0.0.1:{port}",
        }
        targets = [Target(address, operator_labels(NAMESPACE, job, f"{job}-1")) for job, address in addresses.items()]
        with (
            running("engine", standin, folder) as engine,
            running("gateway", target.command, folder, env={**target.env, "SIGNET_CONFIG": str(settings)}) as gateway,
            running_prometheus(
                folder,
                targets,
                interval=f"{round(30_000 / speed)}ms",
                rules={"rules.yaml": rules_of(NAMESPACE, speed)},
                alertmanager=manager,
            ),
        ):
            gateway.wait_ready(f"{target.url}/readyz/engines", {})
            steps = (
                Step(
                    "settings that are not valid are written",
                    lambda: settings.write_text("gateway: {max_choices: many}"),
                    ("SignetSettingsRefused",),
                ),
                Step(
                    "the only engine is killed under streams",
                    engine.process.kill,
                    (
                        *("SignetStreamsLost", "SignetNoEngine", "SignetEngineDown", "SignetAvailabilityBurnsFast"),
                        "SignetEngineUnscraped",
                    ),
                ),
                Step("the gateway hangs", lambda: gateway.process.send_signal(signal.SIGSTOP), ("SignetGatewayDown",)),
            )
            with asking(target.url, key):
                time.sleep(SETTLE_S + 60 * HEALTHY_MIN / speed)
                if told.at:
                    raise RuntimeError(f"told before anything broke: {', '.join(name for _, name in told.at)}")
                for step in steps:
                    step.break_it()
                    results += _wait(step, told, speed)
                gateway.process.send_signal(signal.SIGCONT)
    return results


def _wait(step: Step, told: Told, speed: float) -> Iterator[tuple[str, str, float | None]]:
    broken_at = time.time()
    missing = set(step.alerts)
    while missing and time.time() < broken_at + 60 * PATIENCE_MIN / speed:
        time.sleep(0.1)
        missing -= {name for _, name in told.at}
    for name in step.alerts:
        at = told.at.get((NAMESPACE, name))
        yield step.what, name, None if at is None else (at - broken_at) * speed


@click.command()
@click.option("--speed", default=15.0, show_default=True, help="How much shorter windows and waiting times are.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table into this page's section.")
def main(speed: float, out: Path | None) -> None:
    """Break real processes, and say which alert came after how long."""
    results = run(speed)
    rows = [f"| {what} | {alert} | {'never' if after is None else f'{after:.0f}'} |" for what, alert, after in results]
    head = ["| what breaks | alert | seconds until told |", "|---|---|---|"]
    text = "\n".join([*head, *rows])
    click.echo(text)
    if out is not None:
        about = f"`python -m loadtests.faults.live_alerts --out …`, {datetime.now(UTC):%Y-%m-%d}."
        about += f" Windows and waiting times were {speed:g} times as short; seconds are so many times as long."
        write_section(out, "Real processes", f"{about}\n\n{text}")
    sys.exit(0 if all(after is not None for _, _, after in results) else 1)


if __name__ == "__main__":
    main()
