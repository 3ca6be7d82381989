"""The whole benchmark on one small target, and the page it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests.benchmarks import gateway
from loadtests.tools.report import Report, write_report
from loadtests.tools.targets import chosen


def figures(p50: float, p99: float) -> dict[str, float]:
    """One round in which every workload saw the same."""
    made: dict[str, float] = {"peak_rss_mib": 50.0}
    for workload in gateway.WORKLOADS:
        made |= {
            f"{workload.name}.latency_p50_ms": p50,
            f"{workload.name}.latency_p99_ms": p99,
            f"{workload.name}.first_event_p50_ms": p50,
            f"{workload.name}.first_event_p99_ms": p99,
            f"{workload.name}.ttft_p50_ms": p50,
            f"{workload.name}.ttft_p99_ms": p99,
            f"{workload.name}.cpu_ms_per_request": 0.125,
            f"{workload.name}.cpu_us_per_chunk": 12.5,
            f"{workload.name}.chunks_per_s": 123456.0,
            f"{workload.name}.requests_per_s": 7890.0,
            f"{workload.name}.errors": 0.0,
        }
    return made


def report(added_p50: float, added_p99: float) -> Report:
    return Report(
        command="python -m loadtests.benchmarks.gateway",
        machine=dict.fromkeys(("date", "cpu", "cores", "kernel", "python", "load"), "?"),
        num_rounds=1,
        seconds=1.0,
        direct=[figures(0.1, 0.2)],
        targets={"signet": [figures(0.1 + added_p50, 0.2 + added_p99)]},
        ready_s={"signet": 1.0},
        missing=["nginx: not installed"],
    )


def test_the_page_shows_what_is_added_and_what_is_missing() -> None:
    page = report(0.5, 2.0).markdown()

    assert "| signet |" + " 0.50 / 2.00 |" * 5 in page
    assert "| signet | 0.12 | 7,890 | 123,456 | 12 / 12 | 50 | 1.00 | 0 |" in page
    assert "Not measured: nginx: not installed." in page
    assert page.startswith("# What the gateway costs\n\n`python -m loadtests.benchmarks.gateway`")


@pytest.mark.parametrize(
    ("p50", "p99", "held"),
    [
        pytest.param(0.25, 0.7, [True, True], id="within"),
        pytest.param(0.35, 0.7, [False, True], id="p50 too long"),
        pytest.param(0.25, 0.9, [True, False], id="p99 too long"),
    ],
)
def test_the_bars_are_judged(p50: float, p99: float, held: list[bool]) -> None:
    rows = [line for line in report(p50, p99).markdown().splitlines() if line.startswith("| added latency, 1 client")]

    assert [row.endswith("| held |") for row in rows] == held


def test_costs_are_compared_with_the_router_beside_it_round_by_round() -> None:
    measured = report(0.1, 0.1)
    ours = measured.targets["signet"][0]
    ours |= {"plain-32.cpu_ms_per_request": 0.09, "burst-32.chunks_per_s": 150_000.0}
    router = {"plain-32.cpu_ms_per_request": 0.06, "burst-32.chunks_per_s": 100_000.0}
    measured.targets["vllm-router cache_aware"] = [{**ours, **router} for _ in measured.targets["signet"]]

    bars = {name: (value, relation, bar) for name, value, relation, bar in measured.bars()}
    assert bars["CPU per request ÷ vllm-router's default"] == (pytest.approx(1.5), "≤", 1.0)
    assert bars["chunks a second ÷ vllm-router's default"] == (pytest.approx(1.5), "≥", 1.0)


def test_the_report_is_written_with_its_rounds(tmp_path: Path) -> None:
    write_report(report(0.5, 2.0), tmp_path / "gateway.md")

    written = json.loads((tmp_path / "gateway.json").read_text())
    assert written["targets"]["signet"][0]["plain-1.latency_p50_ms"] == 0.6
    assert (tmp_path / "gateway.md").read_text().count("\n| signet |") == 2


def test_our_gateway_with_and_without_receipts_stands_beside_each_bar() -> None:
    measured = report(0.35, 0.7)
    measured.targets["signet, no receipts"] = report(0.25, 0.7).targets["signet"]
    measured.ready_s["signet, no receipts"] = 1.0

    rows = measured.markdown().splitlines()

    assert "| figure | signet, no receipts | signet | bar |  |" in rows
    assert "| added latency, 1 client, p50, ms | 0.25 | 0.35 | ≤ 0.3 | held |" in rows


def test_proxies_are_measured_end_to_end() -> None:
    affinity = os.sched_getaffinity(0)

    made = gateway.run_bench(chosen(["asgi-pooled", "gateway"]), num_rounds=1, seconds=0.2, command="test")

    assert len(made.targets) == 2
    assert not made.missing
    for (figures,) in made.targets.values():
        for workload in gateway.WORKLOADS:
            assert figures[f"{workload.name}.errors"] == 0
            assert figures[f"{workload.name}.cpu_ms_per_request"] > 0
        # A proxy is no faster than nothing: the sign says that both sides are what they claim to be.
        assert figures["plain-1.latency_p50_ms"] > made.direct[0]["plain-1.latency_p50_ms"]
        assert figures["paced-128.chunks_per_s"] == pytest.approx(made.direct[0]["paced-128.chunks_per_s"], rel=0.5)
    assert os.sched_getaffinity(0) == affinity


def test_an_unknown_target_is_one_line() -> None:
    done = CliRunner().invoke(gateway.main, ["--only", "envoy"])

    assert done.exit_code == 2
    assert "'envoy' is not one of" in done.output


def test_one_core_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})

    done = CliRunner().invoke(gateway.main, ["--quick"])

    assert done.exit_code == 1
    assert done.output == "Error: The benchmark needs two cores: one for the gateway, one for the load.\n"
