"""Inject each fault into what a real Prometheus scrapes, and wait until a real Alertmanager tells of the right alert.

    python -m loadtests.faults.alerts [--speed 15] [--out docs/benchmarks/alerts.md]

Each fault has a namespace, and so the rules of a release, of its own; all break at the same moment. Time runs `--speed`
times as fast: scrapes, windows and waiting times are that much shorter, and counters run that much faster. Then a day
passes in a namespace in which nothing breaks, and must raise nothing. Exits 1 when an alert is late, missing or wrong.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any

import click

from loadtests.faults.alert_faults import (
    CLUSTER,
    FAULTS,
    HEALTHY,
    TARGETS,
    Fault,
    Level,
    Now,
    PerMinute,
    Shape,
    broken,
)
from loadtests.tools.prometheus import Target, running_alertmanager, running_prometheus
from monitoring.alerts import GROUPS, Alert
from training.studies.sections import write_section

HEALTHY_MIN = 40.0
# Prometheus takes five seconds to find its targets, however fast our time runs; until then they are absent.
SETTLE_S = 15.0
QUIET = Fault("nothing breaks", "", 0)
QUIET_SPEED = 240.0
DAY_MIN = 24 * 60
_DURATION = re.compile(r"\b(\d+)(s|m|h|d)\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def compressed(text: str, speed: float) -> str:
    """Rules whose windows and waiting times are `speed` times as short, to a hundredth of a second."""
    in_rules = re.compile(r"(?<=\[)[^\]]+(?=\])|(?<=offset )\w+|(?<=\"for\": \")\w+|(?<=\"interval\": \")\w+")

    def shorten(found: re.Match[str]) -> str:
        return _DURATION.sub(lambda each: f"{round(1000 * int(each[1]) * _SECONDS[each[2]] / speed)}ms", found[0])

    return in_rules.sub(shorten, text)


def _by_day(minute: float) -> float:
    """Minutes of the usual load until then, of which there is twenty times as much at noon as at midnight."""
    return 1.1 * minute - math.sin(2 * math.pi * minute / DAY_MIN) * DAY_MIN / (2 * math.pi)


def rules_of(namespace: str, speed: float) -> str:
    """The chart's rules for one namespace, with time so much faster."""
    rules = json.dumps({"groups": [group.json() for group in GROUPS]})
    return compressed(rules.replace('namespace=\\"signet\\"', f'namespace=\\"{namespace}\\"'), speed)


class Deployment:
    """What one namespace shows: healthy, and from `breaks_at` on with its fault."""

    def __init__(self, fault: Fault, namespace: str, started: float, breaks_at: float, speed: float) -> None:
        self.fault, self.namespace = fault, namespace
        self._started, self._breaks_at, self._speed = started, breaks_at, speed
        self._broken = broken(fault)

    def exposition(self, target: str, now: float) -> str | None:
        """The text of /metrics; None: it does not answer."""
        is_broken = now >= self._breaks_at
        if is_broken and target not in self._broken:
            return None
        series = self._broken[target] if is_broken else HEALTHY[target]
        values = {self._named(target, name): self._value(target, name, shape, now) for name, shape in series.items()}
        return "".join(f"{name} {value}\n" for name, value in values.items())

    def _named(self, target: str, series: str) -> str:
        # kube-state-metrics says itself which namespace it tells of.
        if target != CLUSTER:
            return series
        return series.replace("{", f'{{namespace="{self.namespace}", ')

    def _value(self, target: str, name: str, shape: Shape, now: float) -> float:
        match shape:
            case Level(value):
                return value
            case Now():
                return now
            case PerMinute(rate) if self.fault is QUIET:
                return rate * _by_day((now - self._started) * self._speed / 60)
            case PerMinute(rate):
                before = HEALTHY[target].get(name)
                usual = before.rate if isinstance(before, PerMinute) else 0.0
                healthy_s = min(now, self._breaks_at) - self._started
                broken_s = max(0.0, now - self._breaks_at)
                return (usual * healthy_s + rate * broken_s) * self._speed / 60

    def targets(self, address: str) -> Iterator[Target]:
        """What Prometheus is told to scrape: what is down as well, but not what is gone."""
        for target, labels in TARGETS.items():
            if time.time() >= self._breaks_at and self.fault.gone.get(target) == ():
                continue
            is_cluster = target == CLUSTER
            own = labels if is_cluster else {**labels, "namespace": self.namespace, "endpoint": "http"}
            yield Target(address, own, f"/{self.namespace}/{target}", honors=is_cluster)


@dataclass
class Told:
    """When Alertmanager first told of an alert, by namespace and name, with its labels."""

    at: dict[tuple[str, str], float] = field(default_factory=dict)
    labels: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Prometheus hangs up when it is stopped."""


@contextmanager
def served(deployments: list[Deployment], told: Told, started: float) -> Iterator[str]:
    """Serve every /metrics, and the webhook; yields HOST:PORT."""
    by_name = {each.namespace: each for each in deployments}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, namespace, target = self.path.split("/")
            text = by_name[namespace].exposition(target, time.time())
            self._reply(200 if text is not None else 503, (text or "").encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for alert in body["alerts"]:
                labels = alert["labels"]
                key = (labels.get("namespace", ""), labels["alertname"])
                if time.time() > started + SETTLE_S:
                    told.at.setdefault(key, time.time())
                    told.labels.setdefault(key, labels)
            self._reply(200, b"")

        def _reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Result:
    """What became of a fault. Times in minutes of the deployment's own time."""

    fault: Fault
    after_min: float | None
    severity: str
    wrong: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """The right alert came in time, and no other."""
        is_told = self.after_min is not None and 0 <= self.after_min <= self.fault.within_min
        return (is_told or not self.fault.alert) and not self.wrong


def run(faults: tuple[Fault, ...], speed: float, quiet_min: float) -> list[Result]:
    """Break everything at once, and wait as long as the slowest alert may take, at least `quiet_min`."""
    told = Told()
    started = time.time()
    breaks_at = started + 60 * HEALTHY_MIN / speed
    ends_at = breaks_at + 60 * max([quiet_min, *(fault.within_min + 2 for fault in faults)]) / speed
    deployments = [
        Deployment(fault, f"f{number}", started, breaks_at if fault.alert else ends_at + 60, speed)
        for number, fault in enumerate((*faults, QUIET))
    ]
    files = {f"{each.namespace}.yaml": rules_of(each.namespace, speed) for each in deployments}
    interval = f"{round(30_000 / speed)}ms"
    with (
        tempfile.TemporaryDirectory(prefix="signet-alerts-") as name,
        served(deployments, told, started) as address,
        running_alertmanager(folder := Path(name), f"http://{address}/") as manager,
    ):

        def targets() -> Iterator[Target]:
            return chain.from_iterable(each.targets(address) for each in deployments)

        with running_prometheus(folder, targets(), interval=interval, rules=files, alertmanager=manager) as prometheus:
            time.sleep(max(0.0, breaks_at - time.time()))
            prometheus.scrape(targets())
            time.sleep(max(0.0, ends_at - time.time()))
    return [_result(each, told, breaks_at, speed) for each in deployments]


def _result(deployment: Deployment, told: Told, breaks_at: float, speed: float) -> Result:
    fault = deployment.fault
    heard = {name: at for (namespace, name), at in told.at.items() if namespace == deployment.namespace}
    at = heard.get(fault.alert)
    labels = told.labels.get((deployment.namespace, fault.alert), {})
    expected = {fault.alert, *fault.also}
    early = {name for name, when in heard.items() if when < breaks_at}
    # What follows when nobody acts is not what is asked here.
    deadline = breaks_at + 60 * fault.within_min / speed if fault.alert else math.inf
    wrong = sorted({name for name, when in heard.items() if when < deadline and name not in expected} | early)
    after = None if at is None else (at - breaks_at) * speed / 60
    return Result(fault, after, labels.get("severity", ""), tuple(wrong))


def table(results: list[Result], quiet: Result, speed: float, quiet_hours: float) -> str:
    """The results as a section of Markdown."""
    num_alerts = len({rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Alert)})
    rows = [
        f"| {each.fault.name} | {each.fault.alert} | {each.severity} | "
        f"{'never' if each.after_min is None else f'{60 * each.after_min:.0f}'} | {60 * each.fault.within_min} | "
        f"{', '.join(each.wrong) or 'none'} |"
        for each in results
        if each.fault.alert
    ]
    right = sum(each.is_right for each in results if each.fault.alert)
    return "\n".join(
        [
            f"{right} of {len(rows)} faults raised the right alert in time and no other, of {num_alerts} alerts that"
            f" there are; time ran {speed:g} times as fast.",
            f"Alerts in {quiet_hours:g} hours in which nothing breaks, and the load follows the day (time ran"
            f" {QUIET_SPEED:g} times as fast): {', '.join(quiet.wrong) or 'none'}.",
            "",
            "| fault | alert | severity | seconds until told | bar | other alerts |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


@click.command()
@click.option("--speed", default=15.0, show_default=True, help="How much faster time runs.")
@click.option("--only", multiple=True, help="Only the faults of this alert; may be repeated.")
@click.option("--quiet-hours", default=24.0, show_default=True, help="Hours of a deployment in which nothing breaks.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table into this page.")
def main(speed: float, only: tuple[str, ...], quiet_hours: float, out: Path | None) -> None:
    """Inject every fault, and say which alert came after how long."""
    faults = tuple(fault for fault in FAULTS if not only or fault.alert in only)
    *results, beside = run(faults, speed, 0)
    [quiet] = run((), QUIET_SPEED, 60 * quiet_hours)
    quiet = replace(quiet, wrong=(*quiet.wrong, *beside.wrong))
    text = table(results, quiet, speed, quiet_hours)
    click.echo(text)
    if out is not None:
        about = f"`python -m loadtests.faults.alerts --out …`, {datetime.now(UTC):%Y-%m-%d}."
        write_section(out, "Every alert", f"{about}\n\n{text}")
    sys.exit(0 if all(each.is_right for each in (*results, quiet)) else 1)


if __name__ == "__main__":
    main()
