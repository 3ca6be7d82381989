"""The benchmark's report: the machine, the tables in Markdown, everything in JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from loadtests.figures import added, median_of, medians

Rounds = Sequence[Mapping[str, float]]

# The bar of one client with everything on, in milliseconds.
BAR_P50_MS, BAR_P99_MS = 1.0, 3.0


def machine() -> dict[str, str]:
    """What a reader needs to judge the figures."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f} (1 minute, at the end)",
    }


@dataclass
class Report:
    """Everything that was measured: per target one dictionary of figures a round."""

    command: str
    machine: dict[str, str]
    num_rounds: int
    seconds: float
    direct: list[dict[str, float]]
    targets: dict[str, list[dict[str, float]]]
    ready_s: dict[str, float]
    missing: list[str]

    def markdown(self, title: str = "What the gateway costs") -> str:
        """The page: how it was made, two tables, what was not measured."""
        about = self.machine
        lines = [
            f"# {title}",
            "",
            f"`{self.command}`, {about['date']}; {about['cores']} cores ({about['cpu']}), Linux {about['kernel']}, "
            f"Python {about['python']}, load {about['load']}.",
            f"{self.num_rounds} interleaved rounds of {self.seconds:g} s, medians. One core for the proxies; the "
            "stand-in engine and the load client on the other.",
            "How each figure is made, and how to read it: [README.md](README.md).",
            "",
            "## Added latency, ms p50 / p99, answers of 376 bytes",
            "",
            "| | 1 client | 32 clients | 128 clients | 128 paced streams: first event | first text |",
            "|---|---|---|---|---|---|",
            *(self._latency_row(name, rounds) for name, rounds in self.targets.items()),
            "",
            self._direct_line(),
            "",
            "## Cost and capacity of one core",
            "",
            "| | CPU ms/request | requests/s | chunks/s, full speed | CPU µs/chunk, full speed / paced "
            "| peak memory MiB | ready after s | errors |",
            "|---|---|---|---|---|---|---|---|",
            *(self._cost_row(name, rounds) for name, rounds in self.targets.items()),
        ]
        lines += ["", *(f"Not measured: {reason}." for reason in self.missing)] if self.missing else []
        lines += ["", self.verdict()] if "signet" in self.targets else []
        return "\n".join(lines) + "\n"

    def verdict(self) -> str:
        """Whether our gateway holds the bar at one client."""
        rounds = self.targets["signet"]
        p50 = added(rounds, self.direct, "plain-1.latency_p50_ms")
        p99 = added(rounds, self.direct, "plain-1.latency_p99_ms")
        holds = "held" if p50 <= BAR_P50_MS and p99 <= BAR_P99_MS else "NOT held"
        return f"Bar, one client, everything on: p50 ≤ {BAR_P50_MS:g} ms, p99 ≤ {BAR_P99_MS:g} ms: **{holds}**."

    def _added(self, rounds: Rounds, workload: str, figure: str) -> str:
        return " / ".join(
            _short(added(rounds, self.direct, f"{workload}.{figure}_{percentile}_ms")) for percentile in ("p50", "p99")
        )

    def _latency_row(self, name: str, rounds: Rounds) -> str:
        cells = [self._added(rounds, f"plain-{clients}", "latency") for clients in (1, 32, 128)]
        cells += [self._added(rounds, "paced-128", figure) for figure in ("first_event", "ttft")]
        return _row(name, *cells)

    def _cost_row(self, name: str, rounds: Rounds) -> str:
        middle = medians(rounds)
        per_chunk = [_short(middle[f"{workload}.cpu_us_per_chunk"]) for workload in ("burst-32", "paced-128")]
        errors = sum(value for figures in rounds for key, value in figures.items() if key.endswith(".errors"))
        return _row(
            name,
            _short(middle["plain-32.cpu_ms_per_request"]),
            f"{middle['plain-32.requests_per_s']:,.0f}",
            f"{middle['burst-32.chunks_per_s']:,.0f}",
            " / ".join(per_chunk),
            f"{median_of(figures['peak_rss_mib'] for figures in rounds[-1:]):.0f}",
            _short(self.ready_s[name]),
            f"{errors:.0f}",
        )

    def _direct_line(self) -> str:
        middle = medians(self.direct)
        cells = [
            f"{_short(middle[f'plain-{clients}.latency_p50_ms'])} / {_short(middle[f'plain-{clients}.latency_p99_ms'])}"
            for clients in (1, 32, 128)
        ]
        return (
            f"Directly to the stand-in, the same client takes {cells[0]}, {cells[1]} and {cells[2]} ms, reads "
            f"{middle['burst-32.chunks_per_s']:,.0f} chunks a second, and the first token of 128 paced streams "
            f"after {_short(middle['paced-128.ttft_p50_ms'])} / {_short(middle['paced-128.ttft_p99_ms'])} ms."
        )


def write_report(report: Report, out: Path) -> None:
    """The Markdown at `out`, every round's figures as JSON beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report.markdown())
    out.with_suffix(".json").write_text(json.dumps(_rounded(asdict(report)), indent=1) + "\n")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    """Two significant figures where small: .083, 1.4, 12."""
    if value != value:
        return "–"
    if abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3f}"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return None if value != value else float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
