"""Each fault raises its alert in time and no other, and a quiet day raises none: by Prometheus' own unit tests."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from loadtests.faults.alert_faults import (
    CLUSTER,
    ENGINE_B,
    FAULTS,
    GATEWAY,
    HEALTHY,
    PENDING,
    TARGETS,
    Fault,
    Level,
    Now,
    PerMinute,
    Shape,
    broken,
    engine_up,
    requests,
)
from monitoring.alerts import GROUPS, Alert, Group, objectives

ALERTS = {rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Alert)}
# As much of yesterday as comparisons with it need.
HEALTHY_MIN = 35
ENGINE_B_ADDRESS = TARGETS[ENGINE_B]["instance"]

pytestmark = pytest.mark.services
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian package prometheus is missing")


def with_target(series: str, target: str) -> str:
    """The series as Prometheus keeps it."""
    name, _, own = series.partition("{")
    labels = {"namespace": "signet", "endpoint": "http", **TARGETS[target]}
    if "service" not in labels and target != CLUSTER:
        labels["service"] = labels["job"]
    if target == CLUSTER:
        labels = {"namespace": "signet", "job": labels["job"]}
    if 'pod="' in own:
        labels.pop("pod", None)
    matchers = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{matchers}{', ' + own if own else '}'}"


def values(shape: Shape | None, minutes: int, start_min: int, start: float) -> str:
    """`minutes` samples, one a minute; a counter goes on from `start`."""
    match shape:
        case None:
            return f"_x{minutes}"
        case Level(value):
            return f"{value:g}x{minutes - 1}"
        case PerMinute(rate):
            return f"{start + rate:.10g}+{rate:.10g}x{minutes - 1}"
        case Now():
            return f"{60 * start_min}+60x{minutes - 1}"


def series_of(fault: Fault) -> Iterator[dict[str, str]]:
    after = broken(fault)
    for target in HEALTHY:
        for name in {**HEALTHY[target], **after.get(target, {})}:
            before, now = HEALTHY[target].get(name), after.get(target, {}).get(name)
            reached = before.rate * HEALTHY_MIN if isinstance(before, PerMinute) else 0.0
            # Prometheus marks the end of a series whose target no longer shows it.
            end = "stale " if before is not None and now is None else ""
            yield {
                "series": with_target(name, target),
                "values": f"{values(before, HEALTHY_MIN, 0, 0.0)} {end}"
                f"{values(now, fault.within_min + 1, HEALTHY_MIN, reached)}",
            }
        if target != CLUSTER:
            is_known = fault.gone.get(target) != ()
            up = f"{int(target not in fault.down)}x{fault.within_min}" if is_known else "stale"
            yield {"series": with_target("up", target), "values": f"1x{HEALTHY_MIN - 1} {up}"}


def firing(matcher: str, minute: int, *expected: str) -> dict[str, Any]:
    return {
        "expr": f'group by (alertname) (ALERTS{{alertstate="firing", {matcher}}})',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected],
    }


def run_promtool(groups: tuple[Group, ...], tests: list[dict[str, Any]], folder: Path, every: str = "1m") -> str:
    """What `promtool test rules` says of these groups; nothing when all tests hold."""
    rules, file = folder / "rules.yaml", folder / "tests.yaml"
    # JSON is YAML, and is written a hundred times faster.
    rules.write_text(json.dumps({"groups": [group.json() for group in groups]}))
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": every, "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_each_fault_raises_its_alert_in_time_and_no_other(group: Group, tmp_path: Path) -> None:
    """No other of its group: all groups at once are what `python -m loadtests.faults.alerts` runs."""
    tests = []
    for fault in FAULTS:
        if fault.alert not in {rule.name for rule in group.rules} or not group.name.endswith(fault.objective):
            continue
        end = HEALTHY_MIN + fault.within_min
        known = "|".join((fault.alert, *fault.also))
        expected = [
            firing("", HEALTHY_MIN - 1),
            firing(f'alertname="{fault.alert}"', end, fault.alert),
            firing(f'alertname!~"{known}"', end),
        ]
        tests.append(
            {"name": fault.name, "interval": "1m", "input_series": [*series_of(fault)], "promql_expr_test": expected}
        )

    assert run_promtool((group,), tests, tmp_path) == ""


def test_every_alert_has_a_fault_that_raises_it() -> None:
    """The slow burns of latency are the same rule as that of availability."""
    raised = {fault.alert for fault in FAULTS}

    assert ALERTS - raised == {"SignetFirstTextBurnsSlowly", "SignetNextTextBurnsSlowly"}
    assert raised <= ALERTS


DAY_MIN = 24 * 60
# Of samples and evaluations: at one a minute, a day takes a minute of processor time.
STEP_MIN = 5


def quiet(minutes: range, rate_at: Callable[[int], float]) -> Iterator[dict[str, str]]:
    """Hours of a healthy deployment whose counts are `rate_at(minute)` times the usual, with two rollouts."""
    for target, series in HEALTHY.items():
        for name, shape in series.items():
            match shape:
                case PerMinute(rate):
                    values = [*accumulate(STEP_MIN * rate * rate_at(minute) for minute in minutes)]
                case Level(value):
                    values = [value] * len(minutes)
                case Now():
                    values = [60.0 * minute for minute in minutes]
            if name == engine_up(ENGINE_B_ADDRESS):
                values = [float(not is_rolled_out(minute)) for minute in minutes]
            if name == PENDING:
                values = [float(is_rolled_out(minute) or is_rolled_out(minute - STEP_MIN)) for minute in minutes]
            yield {"series": with_target(name, target), "values": " ".join(f"{value:.8g}" for value in values)}
        if target != CLUSTER:
            yield {"series": with_target("up", target), "values": f"1x{len(minutes)}"}


def is_rolled_out(minute: int) -> bool:
    """An engine is replaced at four and at ten."""
    return any(start <= minute < start + STEP_MIN for start in (240, 600))


def busy_by_day(minute: int) -> float:
    """Ten times as much at two in the afternoon as at two at night, and never even."""
    noise = random.Random(minute).uniform(0.6, 1.4)
    return (1.1 - math.cos(2 * math.pi * (minute - 120) / DAY_MIN)) * noise


def hardly_anybody(_: int) -> float:
    """Four requests an hour."""
    return 4 / 60 / 600


@needs_promtool
@pytest.mark.parametrize(("end_min", "rate_at"), [(DAY_MIN // 2, busy_by_day), (DAY_MIN // 4, hardly_anybody)])
def test_a_quiet_morning_and_a_quiet_night_alert_nobody(
    end_min: int, rate_at: Callable[[int], float], tmp_path: Path
) -> None:
    """A whole day is what `python -m loadtests.faults.alerts` runs."""
    series = [*quiet(range(0, end_min, STEP_MIN), rate_at)]
    raised = {"expr": 'count_over_time(ALERTS{alertstate="firing"}[1d])', "eval_time": f"{end_min}m", "exp_samples": []}
    test = {"interval": f"{STEP_MIN}m", "input_series": series, "promql_expr_test": [raised]}

    assert run_promtool(GROUPS, [test], tmp_path, f"{STEP_MIN}m") == ""


@needs_promtool
def test_a_few_failures_at_night_wake_nobody(tmp_path: Path) -> None:
    """Every second of four requests an hour fails: a share that would burn the budget of a month in hours."""
    night = {requests("200"): PerMinute(2 / 60), requests("503"): PerMinute(2 / 60)}
    fault = Fault("night", "", 3 * 60, {GATEWAY: night})
    test = {
        "interval": "1m",
        "input_series": [each for each in series_of(fault) if each["series"].startswith("signet_gateway_requests")],
        "promql_expr_test": [
            firing('alertname=~"SignetAvailability.*"', HEALTHY_MIN + minute) for minute in range(0, 3 * 60, 10)
        ],
    }

    assert run_promtool(objectives.GROUPS[:1], [test], tmp_path) == ""
