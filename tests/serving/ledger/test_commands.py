"""`signet ledger` and `signet audit`, as people run them."""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from serving.database import Reader
from serving.ledger import Ledger
from serving.ledger.audit_cli import audit
from serving.ledger.cli import ledger
from serving.ledger.export import NAMES
from serving.ledger.usage import RequestFilter, usage
from tests.support.ledgers import a_record, rows

DAY = 86_400.0
Run = Callable[..., Result]


def fill(url: str) -> None:
    async def write() -> None:
        open_ledger = Ledger(url)
        open_ledger.start()
        for day in range(3):
            for tenant, key, model in (("acme", "key_1", "m"), ("acme", "key_2", "n"), ("beta", "key_3", "m")):
                await open_ledger.commit(
                    a_record(
                        tenant=tenant,
                        key_id=key,
                        model=model,
                        created_at=20_000 * DAY + day * DAY + 1,
                        prompt_tokens=10,
                        completion_tokens=5,
                        cost_nanos=3_000_000_007,
                    )
                )
        await open_ledger.audit("key_admin", "key.create", "key_2", {"tenant": "acme"})
        await asyncio.to_thread(open_ledger.stop)

    asyncio.run(write())


@pytest.fixture
def signet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    fill(f"sqlite:///{tmp_path / 'signet.db'}")
    monkeypatch.setenv("SIGNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from serving.settings import load_settings

    def run(group: str, *arguments: str) -> Result:
        command = {"ledger": ledger, "audit": audit}[group]
        return CliRunner().invoke(command, arguments, obj=load_settings, catch_exceptions=False)

    return run


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (("tenant",), [(("acme",), 6, 60, 30), (("beta",), 3, 30, 15)]),
        (("key",), [(("key_1",), 3, 30, 15), (("key_2",), 3, 30, 15), (("key_3",), 3, 30, 15)]),
        (("model", "tenant"), [(("m", "acme"), 3, 30, 15), (("m", "beta"), 3, 30, 15), (("n", "acme"), 3, 30, 15)]),
        (("day",), [((f"2024-10-0{day}",), 3, 30, 15) for day in (4, 5, 6)]),
    ],
)
def test_usage_is_summed_by_what_was_asked(url: str, by: tuple[str, ...], expected: list[tuple[object, ...]]) -> None:
    fill(url)
    with closing(Reader(url)) as reader:
        found = usage(reader, by)  # type: ignore[arg-type]

    assert [row[:4] for row in found] == expected
    assert all(row.cost_nanos == row.requests * 3_000_000_007 for row in found)


def test_usage_of_a_span_and_a_tenant(url: str) -> None:
    fill(url)
    with closing(Reader(url)) as reader:
        found = usage(reader, ("tenant",), RequestFilter(20_001 * DAY, 20_002 * DAY, "acme"))

    assert [row[:2] for row in found] == [(("acme",), 2)]


def test_usage_as_a_table_and_as_json(signet: Run) -> None:
    table = signet("ledger", "usage", "--by", "tenant", "--from", "2024-10-05")
    found = json.loads(signet("ledger", "usage", "--by", "day", "--by", "tenant", "--json").stdout)

    assert table.stdout.splitlines()[1].split() == ["acme", "4", "40", "20", "12.000000028"]
    assert len(found) == 6
    assert found[0] == {
        "day": "2024-10-04",
        "tenant": "acme",
        "requests": 2,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "cost_nanos": 6_000_000_014,
        "cost": "6.000000014",
    }


def test_export_as_csv_and_parquet(signet: Run, tmp_path: Path) -> None:
    assert signet("ledger", "export", "all.csv").exit_code == 0
    assert signet("ledger", "export", "acme.parquet", "--tenant", "acme").exit_code == 0
    stored = rows(f"sqlite:///{tmp_path / 'signet.db'}")

    with (tmp_path / "all.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["request_id"], line["hash"]) for line in lines] == [
        (row["request_id"], row["hash"].hex()) for row in stored
    ]
    table = parquet.read_table(tmp_path / "acme.parquet")
    assert table.column_names == NAMES
    assert table.to_pylist() == [{name: row[name] for name in NAMES} for row in stored if row["tenant"] == "acme"]


def test_verify_says_what_was_changed(signet: Run, tmp_path: Path) -> None:
    good = signet("audit", "verify")
    with sqlite3.connect(tmp_path / "signet.db") as connection:
        connection.execute("UPDATE requests SET tenant = 'beta' WHERE seq = 2")
    connection.close()
    bad = signet("audit", "verify")
    report = json.loads(signet("audit", "verify", "--json").stdout)

    assert good.exit_code == 0
    assert good.stdout.startswith("the chains hold: 9 requests and 1 administrative records in 1 chains\n")
    assert "no anchor was given" in good.stdout
    assert bad.exit_code == 1
    assert "record 2 (req_" in bad.stdout.splitlines()[0]
    assert report["num_findings"] == 1


def test_an_anchor_is_checked_by_verify(signet: Run) -> None:
    noted = signet("audit", "anchor").stdout.strip()
    wrong = noted[:-1] + ("0" if noted[-1] != "0" else "1")

    assert signet("audit", "verify", "--expect", noted).exit_code == 0
    assert signet("audit", "verify", "--expect", wrong).exit_code == 1
    assert signet("audit", "verify", "--expect", "nonsense").exit_code == 2


def test_administrative_actions_are_listed(signet: Run) -> None:
    [line] = signet("audit", "list").stdout.splitlines()
    [action] = json.loads(signet("audit", "list", "--json").stdout)

    assert line.endswith('key_admin  key.create  key_2  {"tenant":"acme"}')
    assert action["details"] == {"tenant": "acme"}


def test_upgrade_is_done_by_itself(signet: Run) -> None:
    assert signet("ledger", "upgrade").stdout == "the database is up to date\n"
