"""Every database, old or empty, comes to the tables that the code describes, without losing a row."""

from __future__ import annotations

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
from ledgers import a_record, rows
from sqlalchemy import Engine, create_engine, insert, text

import serving.identity.schema
from loadtests.tools.services import Postgres
from serving.database import DatabaseError, metadata, open_engine
from serving.database.migrate import SCHEMA_VERSION, migrate, schema_version
from serving.identity import Identity
from serving.ledger import Ledger
from serving.ledger.chain import entry_hash, genesis_hash
from serving.ledger.links import chains
from serving.ledger.record import requests
from serving.ledger.verify import verify

assert serving.identity.schema  # its tables belong to the metadata

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
        schema_version.create(connection)
        connection.execute(schema_version.insert().values(component="serving", version=2))
        command.upgrade(config, "2")
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
        version = connection.scalar(text("SELECT version FROM schema_version"))
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


def test_a_newer_database_is_refused(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(schema_version.update().values(version=99))

    with pytest.raises(DatabaseError, match=r"schema 99.*upgrade Signet"):
        migrate(engine)
    engine.dispose()
