"""The benchmark's report: the machine, the tables in Markdown, everything in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtests.tools.figures import added, median_of, median_ratio, medians

Rounds = Sequence[Mapping[str, float]]

OURS, ROUTER, FASTAPI = "signet", "vllm-router cache_aware", "FastAPI + aiohttp"
# The bars name keys, limits, guard, ledger and metrics; receipts came after them.
WITHOUT_RECEIPTS = "signet, no receipts"


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
        lines += ["", *self._bar_rows()] if not {OURS, WITHOUT_RECEIPTS}.isdisjoint(self.targets) else []
        return "\n".join(lines) + "\n"

    def bars(self, name: str = OURS) -> list[tuple[str, float, str, float]]:
        """What is asked of our gateway: the figure, its value, how it must stand to the bar, and the bar."""
        ours, middle = self.targets[name], medians(self.targets[name])
        found = [
            ("added latency, 1 client, p50, ms", added(ours, self.direct, "plain-1.latency_p50_ms"), "≤", 0.3),
            ("added latency, 1 client, p99, ms", added(ours, self.direct, "plain-1.latency_p99_ms"), "≤", 0.8),
            (
                "added time to the first event, 128 paced streams, p50, ms",
                added(ours, self.direct, "paced-128.first_event_p50_ms"),
                "≤",
                3.0,
            ),
        ]
        cost, rate = "plain-32.cpu_ms_per_request", "burst-32.chunks_per_s"
        if ROUTER in self.targets:
            found.append(("CPU per request ÷ vllm-router's default", self._ratio(name, ROUTER, cost), "≤", 1.0))
            found.append(("chunks a second ÷ vllm-router's default", self._ratio(name, ROUTER, rate), "≥", 1.0))
        if FASTAPI in self.targets:
            found.append(("CPU per request ÷ FastAPI + aiohttp", self._ratio(name, FASTAPI, cost), "≤", 0.5))
        if "open-2.streams" in middle:
            few, some, many = (f"{middle[f'open-{step}.streams']:,.0f}" for step in range(3))
            growth = middle["open-2.cpu_ms_per_request"] / middle["open-0.cpu_ms_per_request"]
            found.append((f"CPU per request with {many} open streams ÷ with {few}", growth, "≤", 1.3))
            found.append((f"memory at {some} open streams, MiB", middle["open-1.rss_mib"], "≤", 300.0))
        return found

    def _ratio(self, name: str, other: str, figure: str) -> float:
        return median_ratio(
            [figures[figure] for figures in self.targets[name]], [figures[figure] for figures in self.targets[other]]
        )

    def _bar_rows(self) -> list[str]:
        """Every bar beside each of our rows; it is judged without receipts where both were measured."""
        ours = [name for name in (WITHOUT_RECEIPTS, OURS) if name in self.targets]
        rows = ["## Bars, everything on", "", _row("figure", *ours, "bar", ""), "|---" * (len(ours) + 3) + "|"]
        for found in zip(*(self.bars(name) for name in ours), strict=True):
            figure, value, relation, bar = found[0]
            held = value <= bar if relation == "≤" else value >= bar
            cells = [_short(bar[1]) for bar in found]
            rows.append(_row(figure, *cells, f"{relation} {bar:g}", "held" if held else "**not held**"))
        return rows

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
        return [_rounded(item) for item in value]
    return value
