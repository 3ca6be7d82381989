"""What can go wrong with tenants, keys and tokens.

IdentityError         a change cannot be made, or the database not be used
  InvalidValue        a name, limit, scope or time is not allowed
  NotFound            there is no such tenant, key or budget
  AlreadyExists       it is there, or the same request made it before
  VersionConflict     somebody else changed it since it was read

Rejected              who asks may not come in; its own tree, since it is told to clients and not to administrators
"""

from __future__ import annotations


class IdentityError(Exception):
    """A tenant or key cannot be created, found or changed; `str()` is one line for the user."""


class InvalidValue(IdentityError):
    pass


class NotFound(IdentityError):
    pass


class AlreadyExists(IdentityError):
    pass


class VersionConflict(IdentityError):
    pass


class Rejected(Exception):
    """A key or token does not let its bearer in.

    `message` is one line for the client; `code` is stable; `status` is 401, 403 where the bearer is known but not
    welcome, or 503 where it cannot be told.
    """

    def __init__(self, message: str, *, code: str, status: int = 401) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
