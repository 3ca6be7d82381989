"""The key of the first start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.identity import Identity, IdentityError, ensure_first_key


@pytest.fixture
def identity(tmp_path: Path) -> Iterator[Identity]:
    identity = Identity(f"sqlite:///{tmp_path / 'signet.db'}")
    yield identity
    identity.close()


def test_it_is_made_once_and_shown_again(identity: Identity, tmp_path: Path) -> None:
    file = tmp_path / "first_key"

    first, again = ensure_first_key(identity, file), ensure_first_key(identity, file)

    assert first == again == file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    principal = identity.authenticate(first or "")
    assert principal is not None
    assert principal.admin


def test_it_is_not_made_where_keys_exist(identity: Identity, tmp_path: Path) -> None:
    identity.create_key("acme")

    assert ensure_first_key(identity, tmp_path / "first_key") is None
    assert not (tmp_path / "first_key").exists()


def test_a_revoked_one_is_not_shown(identity: Identity, tmp_path: Path) -> None:
    ensure_first_key(identity, tmp_path / "first_key")
    identity.revoke(identity.list_keys()[0].id)

    assert ensure_first_key(identity, tmp_path / "first_key") is None


def test_a_readable_file_left_behind_is_closed(identity: Identity, tmp_path: Path) -> None:
    file = tmp_path / "first_key"
    file.write_text("old")
    file.chmod(0o644)

    ensure_first_key(identity, file)

    assert file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_missing_is_one_line(identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot keep the first key in"):
        ensure_first_key(identity, tmp_path / "absent" / "first_key")
