"""The worker over a real ledger: several models and versions, restarts, references, empty traffic."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from monitoring.drift import LedgerReader, LedgerUnreadable
from monitoring.drift.features import Answer
from monitoring.drift.sketch import Sketch
from monitoring.drift.watched import Watched
from monitoring.drift.worker import DriftWorker, UnusableState, read_state
from monitoring.telemetry import DriftSettings
from serving.ledger import Ledger, UsageRecord
from tests.support.drift_answers import answers

START = 1_000_000.0
NOW = START + 10 * 86_400
SETTINGS = DriftSettings(reference_days=0.25, reference_samples=700)
V1, V2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def record(answer: Answer) -> UsageRecord:
    payload = base64.urlsafe_b64encode(json.dumps({"manifest": answer.version}).encode()).decode().rstrip("=")
    return UsageRecord(
        request_id=f"req_{answer.row:024x}",
        created_at=answer.created_at,
        tenant="t",
        key_id="key",
        model=answer.model,
        endpoint="chat",
        status=200,
        prompt_tokens=int(answer.prompt_tokens),
        completion_tokens=int(answer.completion_tokens),
        answer_chars=int(answer.answer_chars),
        refused=bool(answer.refused),
        mark_scheme="gumbel",
        ttft_s=0.2,
        duration_s=1.0,
        receipt=f"header.{payload}.signature" if answer.version else None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, [])
    return tmp_path


def write(folder: Path, own: Sequence[Answer], *more: UsageRecord) -> None:
    async def commit(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.commit(entry) for entry in (*map(record, own), *more)))

    ledger = Ledger(f"sqlite:///{folder / 'signet.db'}")
    ledger.start()
    asyncio.run(commit(ledger))
    ledger.stop()


@pytest.fixture
def reader(folder: Path) -> Iterator[LedgerReader]:
    reader = LedgerReader(f"sqlite:///{folder / 'signet.db'}")
    yield reader
    reader.close()


def worker(folder: Path, reader: LedgerReader, references: dict[str, dict[str, Sketch]] | None = None) -> DriftWorker:
    known = references or {}
    return DriftWorker(
        reader, lambda model, version: known.get(model), SETTINGS, folder / "drift" / "worker.json", START
    )


def test_models_and_versions_are_watched_apart(folder: Path, reader: LedgerReader) -> None:
    write(folder, answers(800, START, version=V1))
    write(folder, answers(800, START, version=V2, seed=2, scale=3.0))
    write(folder, answers(50, START, model="cat"))
    watching = worker(folder, reader)

    assert watching.look(NOW) == []

    samples = {key: own.reference["prompt_tokens"].samples for key, own in watching.watched.items()}
    assert samples == {("bot", V1): 721, ("bot", V2): 721, ("cat", ""): 50}

    write(folder, answers(200, START + 800 * 30, version=V1, seed=3, scale=3.0))
    write(folder, answers(200, START + 800 * 30, version=V2, seed=4, scale=3.0))
    watching.look(NOW)

    assert list(watching.watched["bot", V1].drifted(START + 1000 * 30)) == ["prompt_tokens"]
    assert watching.watched["bot", V2].drifted(START + 1000 * 30) == {}


def test_a_restart_goes_on_where_it_was(folder: Path, reader: LedgerReader) -> None:
    own = answers(1000, START) + answers(200, START + 1000 * 30, seed=2, scale=3.0)
    straight = Watched("bot", "", SETTINGS)
    expected = straight.add(own)

    alarms = []
    for start in range(0, len(own), 160):
        write(folder, own[start : start + 160])
        alarms += worker(folder, reader).look(NOW)

    assert len(expected) > 0
    assert [(alarm.at, alarm.features) for alarm in alarms] == [(alarm.at, alarm.features) for alarm in expected]
    assert worker(folder, reader).look(NOW) == []


def test_answers_that_are_still_being_recorded_are_left_for_the_next_look(folder: Path, reader: LedgerReader) -> None:
    write(folder, answers(10, START, every_s=1))
    watching = worker(folder, reader)

    watching.look(START + 7)
    early = watching.watched["bot", ""].reference["prompt_tokens"].samples
    watching.look(START + 60)

    assert early == 4
    assert watching.watched["bot", ""].reference["prompt_tokens"].samples == 10


def test_what_is_no_models_answer_is_passed_over(folder: Path, reader: LedgerReader) -> None:
    one = record(answers(1, START)[0])
    write(folder, [], UsageRecord("req_e", START, "t", "key", "vectors", "embeddings", 200, prompt_tokens=9))
    write(folder, [], UsageRecord("req_f", START, "t", "key", "bot", "chat", 499, prompt_tokens=9))
    write(folder, [], one)
    watching = worker(folder, reader)

    watching.look(NOW)

    assert list(watching.watched) == [("bot", "")]
    assert watching.watched["bot", ""].reference["prompt_tokens"].samples == 1


def test_a_recorded_reference_is_used_at_once_and_anew_when_it_changes(folder: Path, reader: LedgerReader) -> None:
    known = Watched("bot", "", SETTINGS)
    known.add(answers(700, START))
    references = {"bot": known.reference}
    write(folder, answers(200, START, seed=2))
    watching = worker(folder, reader, references)
    watching.look(NOW)
    own = watching.watched["bot", ""]

    assert own.recorded
    assert own.reference["prompt_tokens"].samples == 700
    first = own.detector
    watching.look(NOW)
    assert own.detector is first

    changed = Watched("bot", "", SETTINGS)
    changed.add(answers(600, START, seed=5, scale=2))
    references["bot"] = changed.reference
    watching.look(NOW)
    assert own.reference["prompt_tokens"].samples == 600


def test_an_expected_model_makes_room_for_its_versions(folder: Path, reader: LedgerReader) -> None:
    watching = worker(folder, reader)
    watching.expect("bot")
    watching.look(NOW)
    assert list(watching.watched) == [("bot", "")]

    write(folder, answers(5, START, version=V1))
    watching.look(NOW)

    assert list(watching.watched) == [("bot", V1)]


def test_no_traffic_is_no_evidence_and_no_error(folder: Path, reader: LedgerReader) -> None:
    watching = worker(folder, reader)

    assert watching.look(NOW) == []
    assert watching.look(NOW + 90 * 86_400) == []
    assert watching.watched == {}


def test_a_ledger_that_is_gone_loses_nothing(folder: Path, reader: LedgerReader) -> None:
    write(folder, answers(100, START))
    watching = worker(folder, reader)
    watching.look(NOW)
    database = folder / "signet.db"

    database.rename(folder / "away")
    with pytest.raises(LedgerUnreadable):
        watching.look(NOW)
    (folder / "away").rename(database)
    write(folder, answers(50, START + 3000, seed=2))
    watching.look(NOW)

    assert watching.watched["bot", ""].reference["prompt_tokens"].samples == 150


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "[1]"])
def test_a_state_file_that_cannot_be_read_is_one_line(folder: Path, reader: LedgerReader, content: str) -> None:
    file = folder / "drift" / "worker.json"
    file.parent.mkdir()
    file.write_text(content)

    with pytest.raises(UnusableState, match="remove it to begin anew"):
        worker(folder, reader)


def test_a_models_state_of_another_release_begins_anew(folder: Path, reader: LedgerReader) -> None:
    write(folder, answers(50, START))
    worker(folder, reader).look(NOW)
    file = folder / "drift" / "worker.json"
    state = read_state(file)
    assert state is not None
    del state["watched"][0]["reference"]
    file.write_text(json.dumps(state))

    assert worker(folder, reader).look(NOW) == []
