"""`signet drift`, on a real ledger and a real registry."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from monitoring.cli import drift
from monitoring.drift import LedgerReader
from monitoring.drift.recorded import reference_finder
from monitoring.drift.worker import DriftWorker, worker_file
from monitoring.telemetry import DriftSettings, TelemetrySettings
from serving.ledger import Ledger, UsageRecord
from tests.support.ledgers import a_record
from tests.support.running import signet_environment, wait_until
from training.registry import ManifestDraft, Registry

_numbers = count()


@dataclass
class Settings:
    home: Path
    drift: DriftSettings = field(default_factory=DriftSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.home / 'signet.db'}"


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(drift, arguments, obj=lambda: Settings(home))


def answers(number: int, length: int = 50, refused: float = 0.0, ago_s: float = 60.0) -> list[UsageRecord]:
    random = Random(1)
    return [
        UsageRecord(
            request_id=f"req_{next(_numbers):024x}",
            created_at=time.time() - ago_s,
            tenant="t",
            key_id="key",
            model="bot",
            endpoint="chat",
            status=200,
            prompt_tokens=random.randint(length // 2, length * 2),
            completion_tokens=random.randint(20, 200),
            refused=random.random() < refused,
        )
        for _ in range(number)
    ]


def write(home: Path, records: list[UsageRecord]) -> None:
    async def commit() -> None:
        await asyncio.gather(*(ledger.commit(record) for record in records))

    ledger = Ledger(f"sqlite:///{home / 'signet.db'}")
    ledger.start()
    asyncio.run(commit())
    ledger.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A registry with `bot@1`, which has no reference yet, and no ledger."""
    home = tmp_path / "home"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").write_text("{}")
    Registry(home / "registry", home / "keys").register(tmp_path / "made", "bot", ManifestDraft(kind="base"))
    return home


@pytest.fixture
def with_reference(home: Path) -> Path:
    """Yesterday's traffic is the reference."""
    write(home, answers(500, ago_s=86_400))
    recorded = run(home, "record", "bot")
    assert recorded.exit_code == 0, recorded.output
    return home


def test_record_puts_the_traffic_into_the_signed_manifest(with_reference: Path) -> None:
    registry = Registry(with_reference / "registry", with_reference / "keys")
    checkpoint = registry.resolve("bot")

    registry.verify(checkpoint)
    reference = checkpoint.manifest.drift_reference
    assert reference is not None
    assert reference.samples == sum(reference.prompt_tokens.counts) == 500


def test_the_same_traffic_has_not_drifted(with_reference: Path) -> None:
    write(with_reference, answers(300))

    printed = json.loads(run(with_reference, "--reference", "bot", "--json").stdout)

    assert (printed["reference"], printed["samples"], printed["drifted"]) == ("bot@1", 300, False)


def test_what_is_served_is_compared_unless_told_otherwise(with_reference: Path) -> None:
    write(with_reference, [*answers(300), a_record(model="elsewhere", created_at=time.time() - 60)])

    assert json.loads(run(with_reference, "--json").stdout)["reference"] == "bot@1"


def test_several_checkpoints_that_are_served_are_named(with_reference: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    registry = Registry(with_reference / "registry", with_reference / "keys")
    registry.register(tmp_path / "other", "cat", ManifestDraft(kind="base"))
    write(with_reference, [*answers(300), a_record(model="cat", created_at=time.time() - 60)])

    result = run(with_reference)

    assert result.exit_code == 2
    assert "bot, cat answered in that time: say which" in result.stderr


def test_other_traffic_has_drifted(with_reference: Path) -> None:
    write(with_reference, answers(300, length=200, refused=0.2))

    result = run(with_reference, "--reference", "bot@1", "--since", "2h")
    printed = json.loads(run(with_reference, "--reference", "bot@1", "--since", "2h", "--json").stdout)

    assert [feature["feature"] for feature in printed["features"] if feature["drifted"]] == [
        "prompt_tokens",
        "refusal_rate",
    ]
    assert [line.split()[0] for line in result.stdout.splitlines() if line.endswith("drifted")] == [
        "prompt_tokens",
        "refusal_rate",
    ]


def test_too_few_answers_say_so(with_reference: Path) -> None:
    write(with_reference, answers(3))

    result = run(with_reference, "--reference", "bot")
    printed = json.loads(run(with_reference, "--reference", "bot", "--json").stdout)

    assert result.exit_code == 0
    assert "not compared: 3 answers in the window" in result.stdout
    assert (printed["drifted"], printed["features"]) == (None, [])


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        pytest.param(["--reference", "bot"], "record one with `signet drift record bot@1`", 1, id="no reference"),
        pytest.param(["--reference", "nobody"], "nobody", 1, id="unknown checkpoint"),
        pytest.param(["record", "bot"], "there is no ledger at", 1, id="no ledger"),
        pytest.param([], "there is no ledger at", 1, id="nothing was served"),
        pytest.param(["--reference", "bot", "--since", "soon"], "neither a span such as", 2, id="bad span"),
        pytest.param(["--reference", "bot", "--since", "2999-01-01"], "not in the past", 2, id="future"),
    ],
)
def test_errors_are_one_line(home: Path, arguments: list[str], says: str, code: int) -> None:
    result = run(home, *arguments)

    assert result.exit_code == code
    assert says in result.stderr.splitlines()[-1]


def test_record_refuses_too_few_answers(home: Path) -> None:
    write(home, answers(99))

    result = run(home, "record", "bot")

    assert result.exit_code == 1
    assert "99 answers of bot or bot@1 since then are too few" in result.stderr


def test_status_says_which_feature_since_when_and_how_sure(with_reference: Path) -> None:
    write(with_reference, answers(600, length=200))
    began = time.time() - 60
    settings = Settings(with_reference)
    registry = Registry(with_reference / "registry", with_reference / "keys")
    reader = LedgerReader(settings.database_url)
    find = reference_finder(registry, None, ())
    DriftWorker(reader, find, settings.drift, worker_file(with_reference), began).look(time.time())
    reader.close()

    printed = run(with_reference, "status")
    (bot,) = json.loads(run(with_reference, "status", "--json").stdout)

    assert (bot["model"], bot["reference"], bot["reference_samples"], bot["drifted"]) == ("bot", "recorded", 500, True)
    moved = {feature["feature"]: feature for feature in bot["features"] if feature["drifted"]}
    assert list(moved) == ["prompt_tokens"]
    assert moved["prompt_tokens"]["what"].endswith("higher")
    assert moved["prompt_tokens"]["since"] > began - 86_400 * 2
    assert [line.split()[0] for line in printed.stdout.splitlines() if "higher since" in line] == ["prompt_tokens"]


def test_status_before_any_worker_is_one_line(home: Path) -> None:
    result = run(home, "status")

    assert result.exit_code == 1
    assert "start one with `signet drift --watch`" in result.stderr


def test_a_port_that_is_taken_is_one_line(with_reference: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(with_reference, "--reference", "bot", "--watch", "--port", str(taken.getsockname()[1]))

    assert result.exit_code == 1
    assert "choose another with --port" in result.stderr


def scrape(port: int) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text = response.read().decode()
    return {
        (sample.name, sample.labels.get("feature", sample.labels.get("window", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_watch_follows_the_ledger_and_stops_on_sigterm(with_reference: Path) -> None:
    """The real command: exporter, absent answers, answers, and a clean end."""
    environment = signet_environment(with_reference, SIGNET_DRIFT__INTERVAL_S="0.1")
    process = subprocess.Popen(
        [sys.executable, "-m", "signet", "drift", "--reference", "bot", "--watch", "--port", "0"],
        env=environment,
        cwd=with_reference,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        first_line = process.stderr.readline().decode()
        assert "/metrics" in first_line, first_line
        port = int(first_line.rsplit(":", 1)[1].split("/")[0])
        wait_until(lambda: scrape(port)["signet_drift_samples", "current"] == 0, 20, "the empty window", process)
        effect = scrape(port)["signet_drift_effect", "prompt_tokens"]
        assert effect != effect

        write(with_reference, answers(300, length=200))

        wait_until(lambda: scrape(port)["signet_drift_samples", "current"] == 300, 20, "new answers", process)
        wait_until(
            lambda: scrape(port)["signet_drift_detected", "prompt_tokens"] == 1, 20, "evidence of the change", process
        )
        assert scrape(port)["signet_drift_detected", "refusal_rate"] == 0
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=20)

    assert process.returncode == 0, rest.decode()
    assert b"Traceback" not in rest
