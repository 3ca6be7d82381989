"""The key of the first start, so that a new installation can be used at once."""

from __future__ import annotations

import os
from pathlib import Path

from serving.identity.errors import IdentityError
from serving.identity.identity import Identity

FIRST_TENANT = "default"


def ensure_first_key(identity: Identity, file: Path) -> str | None:
    """The first key: made when there are no keys at all, kept in `file` (mode 0600) to be shown again.

    An admin key of the tenant `default`. None when there are keys but not this one any more.

    Raises:
        IdentityError: the file cannot be written or read.
    """
    try:
        if not identity.list_keys():
            key = identity.create_key(FIRST_TENANT, admin=True).key
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                os.fchmod(stream.fileno(), 0o600)  # the file may have been there with another mode
                stream.write(key + "\n")
            return key
        if not file.exists():
            return None
        key = file.read_text().strip()
    except OSError as error:
        raise IdentityError(f"cannot keep the first key in {file}: {error.strerror}") from error
    return key if identity.authenticate(key) else None
