"""Whose prompts are found in an engine's prefix cache: one's own.

vLLM keeps the state of prompts that it has read, and a prompt that begins like one of them is answered sooner: whoever
may ask at all could find out, block by block, what others have asked. Blocks are kept under a salt that comes with the
request, so each tenant is given one of its own, which nobody else can make.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from serving.gateway.context import RequestContext
from serving.provenance import Keyring
from serving.provenance.mark_key import salt_from


class CacheSalts:
    """Makes salts from the keyring: the same in every replica, and after a restart."""

    LIVE = ("gateway.shared_cache",)

    def __init__(self, keyring: Keyring | None, shared: Iterable[str]) -> None:
        """`shared`: the tenants that have one salt in common; `*` for all."""
        self._keyring = keyring
        # Without a keyring only this process knows its salts, which is as safe and finds less.
        self._secret = secrets.token_bytes(32)
        self.apply(shared)

    def apply(self, shared: Iterable[str]) -> None:
        """Take other tenants that share from now on."""
        self._shared = frozenset(shared)

    def salt(self, context: RequestContext) -> None:
        """Fill in `question.cache_salt`: the tenant's, with the client's own mixed in."""
        question = context.question
        assert context.principal is not None
        tenant = context.principal.tenant
        # No tenant's name has a space or is empty, so no owner looks like another.
        owner = "shared" if "*" in self._shared or tenant in self._shared else f"tenant {tenant}"
        if question.own_salt:
            owner = f"{owner}\n{question.own_salt}"
        keyring = self._keyring
        question.cache_salt = salt_from(self._secret, owner) if keyring is None else keyring.cache_salt(owner)
