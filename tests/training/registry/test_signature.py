import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from training.registry.errors import KeyUnusable
from training.registry.signature import (
    SignatureInvalid,
    SigningKeys,
    check_signature,
    envelope,
    key_id,
    pre_authentication_encoding,
    replace_file,
)


def test_encoding_is_the_one_of_the_dsse_specification() -> None:
    # The example of the specification's protocol.md.
    encoded = pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")

    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_first_use_makes_a_private_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path / "keys")

    signed = keys.sign(b"payload")

    assert (tmp_path / "keys" / "registry.pem").stat().st_mode & 0o777 == 0o600
    assert check_signature(b"payload", envelope([signed]), keys.trusted()) == signed[0]
    assert sorted(os.listdir(tmp_path / "keys")) == ["registry.pem", "registry.pub"]


def test_processes_that_start_together_share_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        signers = list(pool.map(lambda _: SigningKeys(tmp_path / "keys").sign(b"x"), range(16)))

    assert len(set(signers)) == 1


def test_verifying_needs_no_private_key(tmp_path: Path) -> None:
    signed = SigningKeys(tmp_path / "maker").sign(b"payload")
    (tmp_path / "reader" / "trusted").mkdir(parents=True)
    (tmp_path / "maker" / "registry.pub").rename(tmp_path / "reader" / "trusted" / "maker.pub")

    reader = SigningKeys(tmp_path / "reader")

    assert check_signature(b"payload", envelope([signed]), reader.trusted()) == signed[0]
    assert not (tmp_path / "reader" / "registry.pem").exists()


def test_stranger_changed_payload_and_other_type_are_refused(tmp_path: Path) -> None:
    ours, strangers = SigningKeys(tmp_path / "ours"), SigningKeys(tmp_path / "strangers")
    good = envelope([ours.sign(b"payload")])
    trusted = ours.trusted()

    with pytest.raises(SignatureInvalid, match=r"is signed by [0-9a-f]{32}, which is not a key of"):
        check_signature(b"payload", envelope([strangers.sign(b"payload")]), trusted)
    with pytest.raises(SignatureInvalid, match="does not sign this manifest"):
        check_signature(b"payloaD", good, trusted)
    with pytest.raises(SignatureInvalid, match="signs something else"):
        check_signature(b"payload", good.replace(b"signet.manifest", b"signet.receipt"), trusted)


def test_plain_signature_without_the_encoding_is_refused(tmp_path: Path) -> None:
    ours = SigningKeys(tmp_path)
    keyid, _ = ours.sign(b"payload")
    key = serialization.load_pem_private_key((tmp_path / "registry.pem").read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)

    with pytest.raises(SignatureInvalid):
        check_signature(b"payload", envelope([(keyid, key.sign(b"payload"))]), ours.trusted())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"payloadType": 1}', b"\xff", b"null"])
def test_damaged_envelopes_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        check_signature(b"payload", content, {})


def test_any_one_good_signature_suffices(tmp_path: Path) -> None:
    ours = SigningKeys(tmp_path)
    both = envelope([ours.sign(b"old"), ours.sign(b"new")])

    assert check_signature(b"old", both, ours.trusted()) == check_signature(b"new", both, ours.trusted())


def test_envelope_is_readable_by_other_dsse_tools(tmp_path: Path) -> None:
    keyid, signature = SigningKeys(tmp_path).sign(b"payload")

    document = json.loads(envelope([(keyid, signature)]))

    assert document["payloadType"] == "application/vnd.signet.manifest+json"
    assert base64.b64decode(document["signatures"][0]["sig"]) == signature


@pytest.mark.parametrize("name", ["registry.pem", "registry.pub"])
def test_unusable_key_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no key")

    with pytest.raises(KeyUnusable, match=name):
        SigningKeys(tmp_path).sign(b"x") if name == "registry.pem" else SigningKeys(tmp_path).trusted()


def test_key_id_does_not_depend_on_the_file(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().public_key()

    assert len(key_id(key)) == 32
    assert key_id(key) == key_id(key)


def test_failed_replacement_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        replace_file(path, b"new")

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
