"""The key file: made once, shared by processes, rotated under them, closed to others."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.provenance.receipts import ReceiptKeys, ReceiptKeysError
from serving.provenance.receipts import keys as module
from tests.support.running import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "receipt-keys.json"


def current_kid(keys: ReceiptKeys) -> str:
    return keys.current().signer.kid


def test_the_file_is_made_once_and_only_its_owner_reads_it(path: Path) -> None:
    first, second = ReceiptKeys.open(path, create=True), ReceiptKeys.open(path, create=True)

    assert current_kid(first) == current_kid(second)
    assert path.stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together_share_one_key(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from serving.provenance.receipts import ReceiptKeys;"
        "print(ReceiptKeys.open(Path(sys.argv[1]), create=True).current().signer.kid)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


def test_a_rotation_reaches_who_has_the_file_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.05)
    keys = ReceiptKeys.open(path, create=True)
    before = current_kid(keys)

    rotated = ReceiptKeys.rotate(path)

    wait_until(lambda: current_kid(keys) == rotated.kid, 5, "the new key signs")
    assert [key.kid for key in keys.all()] == [before, rotated.kid]
    assert list(keys.public()) == [before, rotated.kid]


def test_a_retired_key_keeps_its_salts_and_loses_its_private_half(path: Path) -> None:
    keys = ReceiptKeys.open(path, create=True)
    secret, before = keys.current().salt_secret, current_kid(keys)
    private = json.loads(path.read_text())["keys"][0]["private"]

    ReceiptKeys.rotate(path)

    retired = keys.get(before)
    assert retired is not None
    assert retired.salt_secret == secret
    assert keys.get("unknown") is None
    assert private not in path.read_text()
    assert keys.all()[0].retired_at == pytest.approx(time.time(), abs=60)


def test_a_file_that_breaks_under_a_running_gateway_costs_no_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    keys = ReceiptKeys.open(path, create=True)
    kid = current_kid(keys)

    path.write_text("{")

    assert [current_kid(keys) for _ in range(3)] == [kid] * 3
    assert [record.message for record in caplog.records] == ["receipt keys not read again"]
    path.unlink()
    assert current_kid(keys) == kid


def damage(path: Path, **changes: object) -> None:
    document = json.loads(path.read_text())
    document["keys"][-1] |= changes
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "changes",
    [
        {"private": ""},
        {"kid": "another"},
        {"public": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"private": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"},
        {"salt_secret": "AAAA"},
        {"created_at": "yesterday"},
    ],
)
def test_a_damaged_file_is_refused_in_one_line_without_its_secrets(path: Path, changes: dict[str, object]) -> None:
    ReceiptKeys.open(path, create=True)
    secret = json.loads(path.read_text())["keys"][0]["salt_secret"]
    damage(path, **changes)

    with pytest.raises(ReceiptKeysError, match="damaged: restore it from a backup") as error:
        ReceiptKeys.open(path)

    assert secret not in str(error.value)


def test_a_file_of_another_format_is_refused(path: Path) -> None:
    ReceiptKeys.open(path, create=True)
    path.write_text('{"version": 2}')

    with pytest.raises(ReceiptKeysError, match="format version 1"):
        ReceiptKeys.open(path)


def test_a_file_open_to_every_user_is_refused(path: Path) -> None:
    ReceiptKeys.open(path, create=True)
    path.chmod(0o644)

    with pytest.raises(ReceiptKeysError, match="chmod 600"):
        ReceiptKeys.open(path)


def test_a_missing_file_is_said(path: Path) -> None:
    with pytest.raises(ReceiptKeysError, match="there is no file of receipt keys"):
        ReceiptKeys.open(path)


def test_a_mounted_secret_is_read_and_not_rotated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root ignores modes, so the system call is made to fail."""
    kid = current_kid(ReceiptKeys.open(path, create=True))
    system_open = os.open

    def read_only(name: str, flags: int, *rest: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", name)
        return system_open(name, flags, *rest)

    path.chmod(0o440)
    monkeypatch.setattr(os, "open", read_only)

    assert current_kid(ReceiptKeys.open(path, create=True)) == kid
    with pytest.raises(ReceiptKeysError, match="may only be read here"):
        ReceiptKeys.rotate(path)
    with pytest.raises(ReceiptKeysError, match="may only be read here"):
        ReceiptKeys.open(path.with_name("other.json"), create=True)


def test_secrets_show_in_no_representation(path: Path) -> None:
    keys = ReceiptKeys.open(path, create=True)
    [entry] = json.loads(path.read_text())["keys"]

    shown = repr(keys) + repr(keys.all())

    assert entry["private"] not in shown
    assert entry["salt_secret"] not in shown
    assert repr(keys.current().salt_secret) not in shown
