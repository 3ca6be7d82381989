"""Every database, old or empty, comes to the tables that the code describes, without losing a row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, insert, text

import serving.identity.schema
import serving.ledger.feedback
from loadtests.tools.services import Postgres
from serving.database import DatabaseAway, DatabaseError, Migrate, SchemaCheck, metadata, migrate, open_engine
from serving.database.schema import MIN_READER, SCHEMA_VERSION, SchemaMismatch, schema_of, schema_version
from serving.identity import Identity
from serving.ledger import Ledger
from serving.ledger.chain import entry_hash, genesis_hash
from serving.ledger.links import chains
from serving.ledger.record import requests
from serving.ledger.verify import verify
from tests.support.ledgers import a_record, rows

# Their tables belong to the metadata.
assert serving.identity.schema
assert serving.ledger.feedback

# `git archive` of what `serving.ledger` and `serving.identity` import, at the last commit with schema 6.
LAST_RELEASE = Path(__file__).parent / "schema_6.zip"
LAST_RELEASE_PROGRAM = """
import asyncio, json, sys
from serving.identity import Identity
from serving.ledger import Ledger, UsageRecord
from serving.ledger.database import open_engine
from serving.ledger.migrate import SCHEMA_VERSION
from serving.ledger.usage import usage
from serving.ledger.verify import verify

async def write(url):
    ledger = Ledger(url)
    ledger.start()
    for n in range(3):
        await ledger.commit(UsageRecord(f"req_of_the_last_release_{n}", 5.0, "acme", "key_1", "m", "chat", 200))
    await ledger.audit("me", "key.create", "key_1")
    ledger.stop()

url = sys.argv[1]
asyncio.run(write(url))
identity = Identity(url)
key = identity.create_key("acme")
assert identity.authenticate(key.key) is not None
identity.close()
engine = open_engine(url)
report, sums = verify(engine), usage(engine, ["tenant"])
print(json.dumps({"schema": SCHEMA_VERSION, "key": key.key, "findings": report.findings,
                  "requests": report.num_requests, "usage": sums[0].requests}))
"""

# What the version before the migrations made, by `metadata.create_all` on SQLite.
SCHEMA_1 = """
CREATE TABLE schema_version (component VARCHAR(32) NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (component));
CREATE TABLE tenants (name VARCHAR(63) NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (name));
CREATE TABLE api_keys (id VARCHAR(32) NOT NULL, tenant VARCHAR(63) NOT NULL, digest BLOB NOT NULL,
    hint VARCHAR(4) NOT NULL, admin BOOLEAN NOT NULL, requests_per_minute INTEGER, tokens_per_minute INTEGER,
    concurrency INTEGER, mark_default VARCHAR(3) NOT NULL, mark_allowed BOOLEAN NOT NULL, created_at FLOAT NOT NULL,
    revoked_at FLOAT, PRIMARY KEY (id), FOREIGN KEY(tenant) REFERENCES tenants (name), UNIQUE (digest));
CREATE TABLE identity_revision (id INTEGER NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (id));
CREATE TABLE requests (id INTEGER NOT NULL, request_id VARCHAR(64) NOT NULL, created_at FLOAT NOT NULL,
    tenant VARCHAR(64) NOT NULL, key_id VARCHAR(64) NOT NULL, model VARCHAR(255) NOT NULL,
    endpoint VARCHAR(32) NOT NULL, status INTEGER NOT NULL, streamed BOOLEAN NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, prompt_chars INTEGER NOT NULL, answer_chars INTEGER NOT NULL,
    refused BOOLEAN NOT NULL, guard_hits INTEGER NOT NULL, mark_scheme VARCHAR(32) NOT NULL,
    mark_key_id VARCHAR(64) NOT NULL, ttft_s FLOAT, duration_s FLOAT NOT NULL, finish_reason VARCHAR(32) NOT NULL,
    engine VARCHAR(255) NOT NULL, PRIMARY KEY (id), UNIQUE (request_id));
CREATE INDEX ix_requests_created_at ON requests (created_at);
"""
ROWS_1 = """
INSERT INTO schema_version VALUES ('serving', 1);
INSERT INTO tenants VALUES ('acme', 1.5);
INSERT INTO api_keys VALUES ('key_1', 'acme', {digest}, 'abcd', {true}, 60, NULL, NULL, 'on', {true}, 1.5, NULL);
INSERT INTO identity_revision VALUES (1, 7);
INSERT INTO requests (id, request_id, created_at, tenant, key_id, model, endpoint, status, streamed, prompt_tokens,
    completion_tokens, prompt_chars, answer_chars, refused, guard_hits, mark_scheme, mark_key_id, ttft_s, duration_s,
    finish_reason, engine) VALUES
    (1, 'req_a', 1.5, 'acme', 'key_1', 'm', 'chat', 200, {true}, 3, 4, 12, 16, {false}, 0, 'gumbel', 'k', 0.1, 0.5,
    'stop', 'e'),
    (2, 'req_b', 2.5, 'acme', 'key_1', 'm', 'chat', 499, {false}, 3, 0, 12, 0, {false}, 1, '', '', NULL, 0.5, '', 'e');
"""


def make_schema_1(url: str) -> None:
    postgres = url.startswith("postgresql")
    ddl, true, false, digest = SCHEMA_1, "1", "0", "X'00ff'"
    if postgres:
        true, false, digest = "true", "false", r"'\x00ff'"
        ddl = ddl.replace("FLOAT", "FLOAT(53)").replace("BLOB", "BYTEA")
        ddl = ddl.replace("requests (id INTEGER NOT NULL", "requests (id BIGSERIAL NOT NULL")
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in (ddl + ROWS_1.format(true=true, false=false, digest=digest)).split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        if postgres:
            connection.exec_driver_sql("SELECT setval('requests_id_seq', 2)")
    engine.dispose()


def make_schema_2(url: str) -> None:
    """A ledger of the time before receipts: a chain of two records, hashed over the fields that there were."""
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", "serving.database:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "2")
        connection.execute(text("INSERT INTO schema_version VALUES ('serving', 2)"))
        head = genesis = genesis_hash("chain_old", 1.5, "writer", ("", 0, b""))
        for seq in (1, 2):
            values = {name: value for name, value in msgspec.structs.asdict(a_record()).items() if name != "receipt"}
            previous, head = head, entry_hash(head, "chain_old", seq, "requests", tuple(values.values()))
            row = {**values, "chain": 1, "seq": seq, "previous_hash": previous, "hash": head}
            connection.execute(insert(requests).values(row))
        begun = {"started_at": 1.5, "writer": "writer", "linked_chain": "", "linked_seq": 0, "linked_hash": b""}
        connection.execute(insert(chains).values(name="chain_old", genesis=genesis, seq=2, head=head, **begun))
    engine.dispose()


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    return [difference for difference in found if "alembic_version" not in str(difference)]


def test_an_empty_database_gets_the_tables_of_the_code(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    migrate(engine)

    assert differences(engine) == []
    engine.dispose()


def test_the_version_is_the_newest_migration() -> None:
    script = ScriptDirectory(str(Path("serving/database/migrations").absolute()))

    assert script.get_heads() == [str(SCHEMA_VERSION)]


def test_a_database_of_the_first_version_is_upgraded_without_loss(url: str) -> None:
    make_schema_1(url)

    engine = open_engine(url)
    migrate(engine)
    with engine.connect() as connection:
        version = connection.scalar(text("SELECT revision FROM schema_version"))
        digest = connection.scalar(text("SELECT digest FROM api_keys"))
    before = rows(url)

    assert differences(engine) == []
    assert (version, bytes(digest or b"")) == (SCHEMA_VERSION, b"\x00\xff")
    assert [(row["request_id"], row["ttft_s"], row["status"], row["cost_nanos"]) for row in before] == [
        ("req_a", 0.1, 200, 0),
        ("req_b", None, 499, 0),
    ]
    engine.dispose()


async def test_an_upgraded_database_works_and_says_what_is_older_than_its_chains(url: str) -> None:
    make_schema_1(url)
    ledger = Ledger(url)
    ledger.start()
    await ledger.commit(a_record())
    ledger.stop()
    identity = Identity(url)
    keys = [key.id for key in identity.list_keys()]
    identity.close()
    engine = open_engine(url)
    report = verify(engine)
    engine.dispose()

    assert keys == ["key_1"]
    assert (report.findings, report.num_requests, report.num_unchained) == ([], 1, 2)


async def test_receipts_come_to_a_ledger_whose_chains_still_hold(url: str) -> None:
    make_schema_2(url)
    ledger = Ledger(url)
    ledger.start()
    await ledger.commit(a_record(receipt="a.b.c"))
    await ledger.commit(a_record())
    ledger.stop()
    engine = open_engine(url)
    report = verify(engine)
    found = differences(engine)
    engine.dispose()

    assert (report.findings, report.num_requests, report.num_chains) == ([], 4, 2)
    assert found == []
    assert [row["receipt"] for row in rows(url)] == [None, None, "a.b.c", None]


def test_sums_of_days_are_made_from_those_of_hours(url: str) -> None:
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", "serving.database:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "9")
        connection.execute(text("INSERT INTO schema_version VALUES ('serving', 6, 9)"))
        for hour in (86_400, 90_000, 172_800):
            connection.execute(text(f"INSERT INTO usage_hours VALUES ({hour}, 'acme', 'key_1', 'm', 2, 3, 4, 5)"))
    migrate(engine)
    with engine.connect() as connection:
        days = connection.execute(text("SELECT day, requests, cost_nanos FROM usage_days ORDER BY day")).all()
    engine.dispose()

    assert days == [(86_400, 4, 10), (172_800, 2, 5)]


@pytest.mark.services
def test_an_upgrade_that_fails_changes_nothing(postgres: Postgres) -> None:
    make_schema_1(postgres.url)
    engine = open_engine(postgres.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE drained_engines (in_the_way INTEGER)")

    with pytest.raises(DatabaseError, match="already exists"):
        migrate(engine)
    with engine.connect() as connection:
        version = connection.scalar(text("SELECT version FROM schema_version"))
        columns = connection.scalar(
            text("SELECT count(*) FROM information_schema.columns WHERE table_name = 'requests'")
        )
    engine.dispose()

    assert (version, columns) == (1, 21)


def test_an_upgrade_of_a_file_that_fails_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'signet.db'}"
    make_schema_1(url)
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE drained_engines (in_the_way INTEGER)")

    with pytest.raises(DatabaseError, match="already exists"):
        migrate(engine)
    with engine.connect() as connection:
        version = connection.scalar(text("SELECT version FROM schema_version"))
        columns = connection.scalar(text("SELECT count(*) FROM pragma_table_info('requests')"))
    engine.dispose()

    assert (version, columns) == (1, 21)


def test_processes_that_start_together_upgrade_once(url: str) -> None:
    make_schema_1(url)
    program = "import sys; from serving.ledger import Ledger; l = Ledger(sys.argv[1]); l.start(); l.stop()"

    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    engine = open_engine(url)
    report = verify(engine)
    engine.dispose()
    assert (report.findings, report.num_chains, report.num_unchained) == ([], 3, 2)


def set_versions(engine: Engine, revision: int, min_reader: int) -> None:
    with engine.begin() as connection:
        connection.execute(schema_version.update().values(version=min_reader, revision=revision))


@pytest.mark.parametrize("mode", ["start", "never"])
def test_a_database_of_a_newer_version_alone_is_refused(url: str, mode: Migrate) -> None:
    engine = open_engine(url)
    migrate(engine)
    set_versions(engine, 99, 99)

    schema = SchemaCheck(engine, mode)
    with pytest.raises(SchemaMismatch, match=r"schema 99.*upgrade Signet"):
        schema.ensure()
    assert (schema.passed, schema.mismatch) == (False, True)
    engine.dispose()


@pytest.mark.parametrize("mode", ["start", "never"])
async def test_a_database_that_the_next_release_has_expanded_is_used(url: str, mode: Migrate) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE requests ADD COLUMN later VARCHAR(10)")
        connection.exec_driver_sql("ALTER TABLE tenants ADD COLUMN later INTEGER NOT NULL DEFAULT 0")
        connection.exec_driver_sql("CREATE TABLE later (n INTEGER)")
    set_versions(engine, SCHEMA_VERSION + 1, SCHEMA_VERSION)

    ledger = Ledger(url, migrate=mode)
    ledger.start()
    await ledger.commit(a_record())
    ledger.stop()
    identity = Identity(url, migrate=mode)
    key = identity.create_key("acme")
    keeper = identity.authenticate(key.key)
    identity.close()
    report = verify(engine)
    engine.dispose()

    assert keeper is not None
    assert (report.findings, report.num_requests) == ([], 1)


def test_without_leave_to_upgrade_a_database_is_only_looked_at(url: str) -> None:
    make_schema_1(url)
    engine = open_engine(url)
    schema = SchemaCheck(engine, "never")

    with pytest.raises(SchemaMismatch, match=r"schema 1, .* run 'signet ledger upgrade'") as raised:
        schema.ensure()
    with engine.connect() as connection:
        stored = schema_of(connection)
    assert stored == (1, 1)
    assert (schema.mismatch, schema.may_wait(raised.value)) == (True, True)

    migrate(engine)
    schema.ensure()
    with engine.connect() as connection:
        stored = schema_of(connection)
    engine.dispose()

    assert stored == (SCHEMA_VERSION, MIN_READER)
    assert (schema.passed, schema.mismatch) == (True, False)


@pytest.mark.services
def test_a_server_that_is_away_is_told_from_a_database_that_cannot_be_used(postgres: Postgres) -> None:
    postgres.kill()
    engine = open_engine(postgres.url)
    for mode in ("start", "never"):
        schema = SchemaCheck(engine, mode)
        with pytest.raises(DatabaseAway, match="not usable") as raised:
            schema.ensure()
        assert schema.may_wait(raised.value)
        assert "secret" not in str(raised.value), "the database's password"
    engine.dispose()


def run_last_release(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Write and read with the code of schema 6 as it was released, which knows nothing of this repository."""
    return subprocess.run(
        [sys.executable, "-c", LAST_RELEASE_PROGRAM, url],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(LAST_RELEASE)},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_the_last_release_runs_on_this_schema_beside_this_version(url: str, tmp_path: Path) -> None:
    ledger = Ledger(url)
    ledger.start()
    await ledger.commit(a_record())
    done = run_last_release(url, tmp_path)
    await ledger.commit(a_record())
    ledger.stop()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    identity = Identity(url)
    holder = identity.authenticate(seen["key"])
    identity.close()
    engine = open_engine(url)
    report = verify(engine)
    with engine.connect() as connection:
        stored = schema_of(connection)
    engine.dispose()

    assert seen["schema"] <= SCHEMA_VERSION
    assert (seen["findings"], seen["requests"], seen["usage"]) == ([], 4, 4)
    assert holder is not None
    assert (report.findings, report.num_requests) == ([], 5)
    assert stored == (SCHEMA_VERSION, MIN_READER), "the last release changes nothing of it"


def test_the_last_release_refuses_a_schema_that_it_could_not_use(url: str, tmp_path: Path) -> None:
    engine = open_engine(url)
    migrate(engine)
    set_versions(engine, SCHEMA_VERSION, SCHEMA_VERSION)
    engine.dispose()

    done = run_last_release(url, tmp_path)

    assert done.returncode == 1
    assert "upgrade Signet" in done.stderr
