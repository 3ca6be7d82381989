"""A real Prometheus, and an Alertmanager, of our own: on free ports, with the labels that an operator gives targets."""

from __future__ import annotations

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.tools.processes import ProgramError, running
from loadtests.tools.services import program
from loadtests.tools.targets import free_port

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Target:
    """Something to scrape. `honors`: what it says of itself wins, as for kube-state-metrics."""

    address: str
    labels: Mapping[str, str]
    path: str = "/metrics"
    honors: bool = False


def operator_labels(namespace: str, job: str, pod: str) -> dict[str, str]:
    """What the Prometheus operator gives a target that a ServiceMonitor of the chart has found."""
    container = "gateway" if job.endswith("-gateway") else "engine"
    labels = {"namespace": namespace, "service": job, "pod": pod, "container": container, "endpoint": "http"}
    return {"job": job, **labels}


@dataclass(frozen=True)
class Line:
    """One series of an answer."""

    labels: dict[str, str]
    points: Points = field(default_factory=list)

    @property
    def has_values(self) -> bool:
        """Whether there is a number among them."""
        return any(not math.isnan(value) for _, value in self.points)


class Prometheus:
    """Asks a running server, and tells it what to scrape."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    def scrape(self, targets: Iterable[Target]) -> None:
        """Scrape these from now on, and no others: it looks at its files when they change."""
        write_targets(self._folder, targets)

    def query(self, expr: str) -> list[Line]:
        """What it is now."""
        return [Line(each["metric"], [_point(each["value"])]) for each in self._get("query", query=expr)]

    def query_range(self, expr: str, start: float, end: float, step_s: float) -> list[Line]:
        """What it was, from `start` to `end`."""
        found = self._get("query_range", query=expr, start=start, end=end, step=step_s)
        return [Line(each["metric"], [*map(_point, each["values"])]) for each in found]

    def exemplars(self, expr: str, start: float, end: float) -> dict[str, list[str]]:
        """Ids of the traces that lead on from an expression's series, by the series' names."""
        found = self._get("query_exemplars", query=expr, start=start, end=end)
        return {
            each["seriesLabels"]["__name__"]: [exemplar["labels"]["trace_id"] for exemplar in each["exemplars"]]
            for each in found
        }

    def _get(self, what: str, **parameters: Any) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=30) as response:
            data = json.load(response)["data"]
        found: list[dict[str, Any]] = data if isinstance(data, list) else data["result"]
        return found


# Files of targets, and whether what they say of themselves wins.
_FILES = {"targets": False, "targets-that-win": True}


def write_targets(folder: Path, targets: Iterable[Target]) -> None:
    """Write the files in which Prometheus finds its targets; one is replaced whole, never read half."""
    known = list(targets)
    for name, honors in _FILES.items():
        groups = [
            {"targets": [each.address], "labels": {**each.labels, "__metrics_path__": each.path}}
            for each in known
            if each.honors == honors
        ]
        (folder / f"{name}.new").write_text(json.dumps(groups))
        (folder / f"{name}.new").replace(folder / f"{name}.json")


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@contextmanager
def running_prometheus(
    folder: Path,
    targets: Iterable[Target],
    *,
    interval: str = "1s",
    rules: Mapping[str, str] | None = None,
    alertmanager: str | None = None,
) -> Iterator[Prometheus]:
    """Start Debian's Prometheus in `folder`; `rules` are texts of rule files by name, `alertmanager` HOST:PORT.

    Raises:
        FileNotFoundError: it is not installed.
        ProgramError: it does not start.
    """
    port = free_port()
    for name, text in (rules or {}).items():
        (folder / name).write_text(text)
    write_targets(folder, targets)
    scrapes = [
        {"job_name": name, "honor_labels": honors, "file_sd_configs": [{"files": [f"{name}.json"]}]}
        for name, honors in _FILES.items()
    ]
    managers = [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [*(rules or {})],
        "alerting": {"alertmanagers": managers},
        "scrape_configs": scrapes,
    }
    # JSON is YAML.
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    command = [program("prometheus"), f"--config.file={folder / 'prometheus.yaml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    # Alerts go out as soon as they are known, and again only when something changes.
    command += ["--rules.alert.resend-delay=1s", "--log.level=warn"]
    command += ["--enable-feature=exemplar-storage"]
    url = f"http://127.0.0.1:{port}"
    with running("prometheus", command, folder) as process:
        process.wait_ready(f"{url}/-/ready", {})
        yield Prometheus(url, folder)


@contextmanager
def running_alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Start Debian's Alertmanager, which passes each alert to `webhook` at once; yields its HOST:PORT.

    Raises:
        ProgramError: it is not installed, or does not start.
    """
    address = f"127.0.0.1:{free_port()}"
    route = {
        "receiver": "hook",
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1d",
    }
    receivers = [{"name": "hook", "webhook_configs": [{"url": webhook, "send_resolved": False}]}]
    (folder / "alertmanager.yaml").write_text(json.dumps({"route": route, "receivers": receivers}))
    try:
        command = [program("prometheus-alertmanager", "alertmanager")]
    except FileNotFoundError:
        raise ProgramError("Alertmanager is not installed: sudo apt-get install prometheus-alertmanager") from None
    command += [f"--config.file={folder / 'alertmanager.yaml'}", f"--storage.path={folder / 'alerts'}"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn"]
    with running("alertmanager", command, folder) as process:
        process.wait_ready(f"http://{address}/-/ready", {})
        yield address
