"""The local journal: in order, idempotent, bounded, and honest about damage and full disks."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from serving.ledger.audit import Entry
from serving.ledger.journal import Journal, JournalUnavailable
from tests.support.ledgers import a_record


def test_a_file_that_lives_is_left_to_its_process(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, 10_000), Journal(tmp_path, 10_000)
    first.append([a_record()])

    second.adopt()
    assert second.waiting == 0
    first.close()
    second.adopt()

    assert second.waiting == 1
    second.close()


def test_entries_come_back_in_order_and_again_until_they_are_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 100_000)
    records = [a_record() for _ in range(5)]
    journal.append(records[:3])
    journal.append(records[3:])

    assert journal.oldest(2) == journal.oldest(2) == records[:2]
    journal.forget(records[:2])
    assert journal.oldest(9) == records[2:]
    journal.forget(records[2:])

    assert (journal.oldest(1), journal.waiting) == ([], 0)
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["spilled", "set aside"])
def test_every_byte_is_synced_before_it_counts(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watched, not replaced: the sizes that files had when they were synced."""
    synced: dict[str, int] = {}

    def watch(name: str) -> None:
        real = getattr(os, name)

        def sync(descriptor: int) -> None:
            real(descriptor)
            synced[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size

        monkeypatch.setattr(os, name, sync)

    watch("fsync")
    watch("fdatasync")
    journal = Journal(tmp_path, 100_000)
    for _ in range(3):
        journal.append([a_record()]) if kind == "spilled" else journal.set_aside([a_record()])
        [file] = (path for path in tmp_path.iterdir() if path.is_file())
        assert synced[str(file)] == file.stat().st_size > 0
    assert str(tmp_path) in synced, "the file's name too"
    journal.close()


def test_a_damaged_line_is_said_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path, 100_000)
    records = [a_record() for _ in range(3)]
    journal.append(records)
    journal.close()
    [file] = tmp_path.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1].replace(b'"acme"', b'"evil"') + lines[2])

    adopted = Journal(tmp_path, 100_000)
    adopted.adopt()
    found = adopted.oldest(9)
    adopted.forget(found)
    assert adopted.oldest(9) == []
    adopted.close()

    assert found == [records[0], records[2]]
    assert "is damaged at byte" in caplog.text
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged"]


def test_a_full_journal_refuses_and_takes_again_when_replayed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 4096)
    taken, reason = fill_up(journal)
    assert "holds all it may, 4096 bytes" in reason

    assert journal.oldest(99) == taken
    journal.forget(taken)
    assert journal.oldest(1) == []
    journal.append([a_record()])
    journal.close()


def test_a_full_disk_refuses_and_keeps_what_was_promised(small_disk: Path) -> None:
    journal = Journal(small_disk, 10**9)
    taken, reason = fill_up(journal)

    assert "no space left on device" in reason
    assert journal.waiting == len(taken)
    journal.close()
    adopted = Journal(small_disk, 10**9)
    adopted.adopt()
    assert adopted.oldest(10_000) == taken
    adopted.close()


def fill_up(journal: Journal) -> tuple[list[Entry], str]:
    """What the journal took, and why it took no more."""
    taken: list[Entry] = []
    for _ in range(2000):
        batch: list[Entry] = [a_record() for _ in range(3)]
        try:
            journal.append(batch)
        except JournalUnavailable as error:
            return taken, str(error)
        taken += batch
    pytest.fail("it took everything")


def test_a_file_that_may_not_grow_refuses_and_goes_on_afterwards(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 10**9)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        taken, reason = fill_up(journal)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    more = a_record()
    journal.append([more])

    assert "file too large" in reason
    assert journal.oldest(10_000) == [*taken, more]
    journal.close()
