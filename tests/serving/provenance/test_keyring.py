"""The keyring file: what it promises to the gateway, to the engine and to whoever finds it lying about."""

import base64
import json
import multiprocessing
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from serving.provenance import Keyring, KeyringError, UnknownMarkKey
from serving.provenance.adjustment import Adjustment


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "keyring.json", create=True)


def tenants(ring: Keyring) -> set[str]:
    issued = ring.keys()
    return {key.tenant for key in issued}


def test_new_file_is_private_and_versioned(ring: Keyring) -> None:
    document = json.loads(ring.path.read_text())

    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    assert document["version"] == 1
    assert document["keys"] == {}


def test_opening_again_with_create_keeps_the_secret(ring: Keyring) -> None:
    seed = ring.mark_key("acme").seed

    assert Keyring.open(ring.path, create=True).mark_key("acme").seed == seed


def test_missing_file_is_an_error_without_create(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="there is no keyring at"):
        Keyring.open(tmp_path / "keyring.json")


def test_keys_are_stable_distinct_and_64_bit(ring: Keyring) -> None:
    keys = [ring.mark_key(f"tenant-{number}") for number in range(50)]

    assert keys == [ring.mark_key(f"tenant-{number}") for number in range(50)]
    assert len({key.id for key in keys}) == len({key.seed for key in keys}) == 50
    assert all(0 <= key.seed < 2**64 for key in keys)
    assert max(key.seed for key in keys) > 2**56


def test_each_scheme_has_a_seed_of_its_own(ring: Keyring) -> None:
    key = ring.mark_key("acme")

    assert ring.seed(key.id, "gumbel") == ring.seed(key.id) == key.seed
    assert ring.seed(key.id, "synthid") != key.seed


def test_another_root_gives_another_id_and_seed(ring: Keyring, tmp_path: Path) -> None:
    other = Keyring.open(tmp_path / "other.json", create=True)

    assert other.mark_key("acme").id != ring.mark_key("acme").id
    assert other.mark_key("acme").seed != ring.mark_key("acme").seed


def test_id_is_url_safe_and_hides_the_tenant(ring: Keyring) -> None:
    key = ring.mark_key("acme")

    assert key.id.replace("-", "").isalnum()
    assert "acme" not in key.id


def test_repr_hides_secrets(ring: Keyring) -> None:
    key = ring.mark_key("acme")
    secret = json.loads(ring.path.read_text())["epochs"][0]["secret"]

    assert str(key.seed) not in repr(key)
    assert secret not in repr(ring)
    assert str(key.seed) not in repr(ring)


@pytest.mark.parametrize("name", ["", "Acme", "-acme", "a b", "a" * 64, "acme\n"])
def test_a_name_that_is_no_tenants_is_refused(ring: Keyring, name: str) -> None:
    with pytest.raises(ValueError, match="not a tenant's name"):
        ring.mark_key(name)


def test_reverse_mapping_is_in_the_file(ring: Keyring) -> None:
    key = ring.mark_key("acme")

    assert Keyring.open(ring.path).by_id(key.id).tenant == "acme"
    assert Keyring.open(ring.path).keys() == [key]


def test_a_reader_learns_new_keys_without_reopening(ring: Keyring) -> None:
    reader = Keyring.open(ring.path)

    key = ring.mark_key("late")

    assert reader.by_id(key.id) == key
    assert reader.keys() == [key]


def test_seed_needs_no_mapping(ring: Keyring) -> None:
    """An engine that read the file before a tenant came still marks for it."""
    engine = Keyring.open(ring.path)
    key = ring.mark_key("late")
    ring.path.unlink()

    assert engine.seed(key.id) == key.seed


@pytest.mark.parametrize(
    "key_id",
    [
        "",
        "mk1",
        "nonsense",
        "mk1-" + "0" * 20,
        "mk7-" + "0" * 20,
        "mk0-" + "0" * 20,
        "mk1-" + "0" * 21,
        "mk1-" + "G" * 20,
    ],
)
def test_invented_ids_are_unknown(ring: Keyring, key_id: str) -> None:
    with pytest.raises(UnknownMarkKey):
        ring.seed(key_id)
    with pytest.raises(UnknownMarkKey):
        ring.by_id(key_id)


def test_an_id_with_one_digit_changed_is_unknown(ring: Keyring) -> None:
    key_id = ring.mark_key("acme").id
    for position in range(4, len(key_id)):
        digit = "0" if key_id[position] != "0" else "1"
        with pytest.raises(UnknownMarkKey):
            ring.seed(key_id[:position] + digit + key_id[position + 1 :])


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666, 0o601])
def test_a_file_open_to_every_user_is_refused(ring: Keyring, mode: int) -> None:
    ring.path.chmod(mode)

    with pytest.raises(KeyringError, match="chmod 600"):
        Keyring.open(ring.path)


def test_group_access_is_kept_across_writes(ring: Keyring) -> None:
    """Kubernetes gives a group the right to read a mounted secret."""
    ring.path.chmod(0o640)

    Keyring.open(ring.path).mark_key("acme")

    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"version": 2, "epochs": [], "keys": {}}',
        '{"version": 1, "epochs": [], "keys": {}}',
        '{"version": 1, "epochs": [{"id": 1, "secret": "c2hvcnQ="}], "keys": {}}',
        '{"version": 1, "epochs": [{"id": 1, "secret": 5}], "keys": {}}',
        '{"version": 1, "epochs": 3, "keys": {}}',
        '{"version": 1}',
        '{"version": 1, "epochs": [{"id": 1, "secret": "%s"}], "keys": {"acme": "acme"}}' % ("A" * 43 + "="),
        '{"version": 1, "epochs": [{"id": 1, "secret": "%s"}], "keys": {}, "revoked": 3}' % ("A" * 43 + "="),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keyring.json"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(KeyringError) as caught:
        Keyring.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_still_gives_the_key(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a mounted secret. Root ignores modes, so the system call is made to fail."""
    expected = Keyring.open(ring.path).mark_key("before").seed
    assert expected
    reader = Keyring.open(ring.path)
    real_open = os.open

    def read_only(path: str, flags: int, *rest: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(30, "Read-only file system")
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)

    key = reader.mark_key("acme")

    assert reader.by_id(key.id).tenant == "acme"
    assert tenants(reader) == {"acme", "before"}
    assert "acme" not in ring.path.read_text()


def test_rotation_gives_every_tenant_a_new_key_and_keeps_the_old(ring: Keyring) -> None:
    old = ring.mark_key("acme")

    assert ring.rotate() == 2
    new = ring.mark_key("acme")

    assert new.id.startswith("mk2-")
    assert new.seed != old.seed
    assert {old, new} == set(ring.keys())
    assert Keyring.open(ring.path).seed(old.id) == old.seed


def test_an_open_keyring_takes_up_a_rotation_within_a_second(ring: Keyring) -> None:
    gateway = Keyring.open(ring.path)
    gateway.mark_key("acme")

    ring.rotate()

    deadline = time.monotonic() + 5
    while gateway.mark_key("acme").epoch == 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gateway.mark_key("acme") == ring.mark_key("acme")


def test_an_engine_takes_up_a_rotation_with_the_first_key_of_the_new_epoch(ring: Keyring) -> None:
    engine = Keyring.open(ring.path)
    ring.rotate()
    key = ring.mark_key("acme")

    assert engine.seed(key.id) == key.seed


def test_a_revoked_key_is_replaced_and_still_known(ring: Keyring) -> None:
    revoked = ring.mark_key("acme")

    ring.revoke(revoked.id)
    successor = ring.mark_key("acme")

    assert successor.id != revoked.id
    assert successor.seed != revoked.seed
    assert ring.is_revoked(revoked.id)
    assert not ring.is_revoked(successor.id)
    issued = Keyring.open(ring.path).keys()
    known = {key.id: key.revoked_at for key in issued}
    assert known[revoked.id] is not None
    assert known[successor.id] is None
    assert Keyring.open(ring.path).mark_key("acme") == successor


def test_revoking_again_keeps_the_first_time_and_the_next_successor(ring: Keyring) -> None:
    first = ring.mark_key("acme")
    at = ring.revoke(first.id).revoked_at
    second = ring.mark_key("acme")
    ring.revoke(second.id)

    assert ring.revoke(first.id).revoked_at == at
    assert len({first.id, second.id, ring.mark_key("acme").id}) == 3


def test_a_key_nobody_issued_cannot_be_revoked(ring: Keyring) -> None:
    with pytest.raises(UnknownMarkKey):
        ring.revoke("mk1-" + "0" * 20)


def test_each_model_has_a_key_of_its_own(ring: Keyring) -> None:
    general, small, large = ring.mark_key("acme"), ring.mark_key("acme", "small"), ring.mark_key("acme", "org/large")

    assert len({general.id, small.id, large.id}) == len({general.seed, small.seed, large.seed}) == 3
    reader = Keyring.open(ring.path)
    assert reader.by_id(small.id).model == "small"
    assert reader.by_id(large.id).model == "org/large"
    assert reader.by_id(general.id).model is None
    assert {key.id for key in reader.keys_of(["acme"])} == {general.id, small.id, large.id}
    assert reader.keys_of(["other"]) == []


def test_on_a_read_only_disk_keys_of_other_processes_are_tried_too(
    ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {ring.mark_key("acme").id, ring.mark_key("acme", "small").id}
    document = json.loads(ring.path.read_text())
    ring.path.write_text(json.dumps(document | {"keys": {}, "models": {}}))
    reader = Keyring.open(ring.path)

    assert reader.keys_of(["acme"], ["small"]) == []
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert {key.id for key in reader.keys_of(["acme"], ["small"])} == expected


def test_a_file_of_the_first_release_goes_on_working(tmp_path: Path) -> None:
    """Written by it, with the seed it had."""
    path = tmp_path / "keyring.json"
    secret = base64.b64encode(bytes(range(32))).decode()
    path.write_text(json.dumps({"version": 1, "epochs": [{"id": 1, "secret": secret}], "keys": {}}))
    path.chmod(0o600)
    ring = Keyring.open(path)
    key = ring.mark_key("acme")

    by_library = HKDF(SHA256(), length=8, salt=None, info=f"signet|mark|gumbel|{key.id}".encode())
    assert key.seed == int.from_bytes(by_library.derive(bytes(range(32))), "big")
    assert (key.id, key.seed) == ("mk1-09f1d70a5109382f3759", 10114912496789399883)


def test_a_file_that_becomes_unsound_leaves_what_was_read(ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    key = ring.mark_key("acme")
    ring.path.write_text("{")

    assert ring.keys() == [key]
    assert ring.mark_key("acme") == key
    assert "cannot be used" in caplog.text


def test_adjustments_are_kept_and_replaced(ring: Keyring) -> None:
    key = ring.mark_key("acme")
    first = Adjustment(key.id, "gumbel", "digest", 0.1, 1.5, 100, 20_000, 1)
    second = replace(first, shift=0.2)

    ring.adjust([first])
    ring.adjust([second])

    assert Keyring.open(ring.path).adjustments == {second.subject: second}


def _issue(path: Path, first: int) -> None:
    ring = Keyring.open(path)
    for number in range(first, first + 20):
        ring.mark_key(f"t{number}")


def test_processes_writing_at_once_lose_no_key(ring: Keyring) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_issue, args=(ring.path, first)) for first in (0, 20, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert tenants(ring) == {f"t{number}" for number in range(60)}


def test_cache_salts_are_stable_and_each_owners_own(ring: Keyring) -> None:
    again = Keyring.open(ring.path)

    assert ring.cache_salt("tenant a") == again.cache_salt("tenant a") != ring.cache_salt("tenant b")
    assert len(ring.cache_salt("tenant \ud800")) == 43
    before = ring.cache_salt("tenant a")
    ring.rotate()
    assert ring.cache_salt("tenant a") != before
