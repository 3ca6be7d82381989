"""Who asks: keys and tokens, checked in memory; followed in the database."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy import select

from serving.database import DatabaseError, Migrate
from serving.identity.adapter import LiveAdapter
from serving.identity.errors import AlreadyExists, IdentityError, Rejected
from serving.identity.key import digest_of, is_key
from serving.identity.lookups import Lookups
from serving.identity.principal import Principal
from serving.identity.rows import Snapshot, load_snapshot
from serving.identity.schema import identity_revision
from serving.identity.settings import IdentitySettings
from serving.identity.store import IdentityStore

if TYPE_CHECKING:
    from serving.identity.tokens import TokenVerifier, VerifiedToken

logger = logging.getLogger(__name__)

# Verified tokens that are remembered; about 1 KB each.
MAX_TOKENS = 20_000
# Digests of keys that the database does not know; about 100 bytes each.
MAX_UNKNOWN = 10_000
# An asker waits no longer for a look at the database; a server that hangs answers after many seconds or never.
LOOKUP_TIMEOUT_S = 3.0


class Identity(IdentityStore):
    """The tenants and keys of one database, and their holders in memory.

    `start` follows changes made by other processes; `refresh` looks once. A key that another process made is let in
    from the moment its call has returned, and one that it revoked is not.

    With `wait`, a database that is away, or that `signet ledger upgrade` has not been run on, is no error: nobody is
    let in until it is there (`is_ready`).

    Raises:
        DatabaseError, IdentityError: (constructor) the database cannot be opened, or not written now.
        ValueError: (constructor) the settings of tokens cannot be used; one line.
    """

    LIVE = ("identity.poll_interval_s", "identity.last_used_interval_s", "identity.jwt")
    """Settings that `apply` takes on."""

    def __init__(
        self, url: str, settings: IdentitySettings | None = None, migrate: Migrate = "start", wait: bool = False
    ) -> None:
        self._settings = settings or IdentitySettings()
        self._verifier = _verifier_of(self._settings)
        self._wait = wait
        self._complaint = ""
        self.is_ready = False
        """Whether the database has been read: from then on its keys are known, also while it is away again."""
        super().__init__(url, migrate)
        self._snapshot = Snapshot({}, {}, frozenset(), frozenset(), {})
        self._principals = self._snapshot.principals
        self._tokens: dict[bytes, Principal] = {}
        self._unknown: dict[bytes, None] = {}
        self._lookups = Lookups(self._look)
        self._used: set[str] = set()
        self._revision = -1
        self._reload_lock = threading.Lock()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="signet-identity", daemon=True)
        if self._schema.passed:
            self.refresh()

    def authenticate(self, presented: str) -> Principal | None:
        """Whose key this is, or token seen before; else None, and `verify` says. In memory, about a microsecond.

        What is looked up is the digest: a caller who measures how long the lookup takes learns about a hash
        it cannot steer, never how many characters of a key were right.
        """
        # Asked first: what is looked up afterwards is then at least as new.
        return None if self._changes.pending() else self._holder(digest_of(presented))

    def _holder(self, digest: bytes) -> Principal | None:
        principal = self._principals.get(digest) or self._tokens.get(digest)
        if principal is None or (principal.expires_at is not None and principal.expires_at <= time.time()):
            return None
        self._used.add(principal.key_id)
        return principal

    async def verify(self, presented: str) -> Principal:
        """Whose key or token this is, for what `authenticate` did not find; looks at the database where that may help.

        A token is remembered until it expires, a key that nobody knows until the database changes.

        Raises:
            Rejected: what is presented lets nobody in, and why.
        """
        digest = digest_of(presented)
        if self._changes.pending() or (is_key(presented) and digest not in self._unknown):
            has_looked = await self._looked()
            if (principal := self._holder(digest)) is not None:
                return principal
            if not has_looked and is_key(presented) and digest not in self._snapshot.suspended:
                raise Rejected("Keys cannot be looked up just now.", code="identity_unavailable", status=503)
        verifier, tokens, snapshot = self._verifier, self._tokens, self._snapshot
        if verifier is None or presented.count(".") != 2:
            if is_key(presented):
                self._note_unknown(digest, snapshot)
            raise _why_not(snapshot, digest)
        token = await verifier.verify(presented)
        if token.tenant not in snapshot.tenants:
            await self._make_tenant(token.tenant)
            tokens, snapshot = self._tokens, self._snapshot
        principal = _token_principal(token, snapshot)
        # A change meanwhile has replaced `tokens`; what is then written into the old one is never looked at.
        while len(tokens) >= MAX_TOKENS:
            tokens.pop(next(iter(tokens)), None)
        tokens[digest] = principal
        return principal

    @property
    def drained_engines(self) -> frozenset[str]:
        """Names of engines that an administrator drains, as of the last look."""
        return self._snapshot.drained

    @property
    def live_adapters(self) -> dict[str, LiveAdapter]:
        """Adapters that engines are to serve, by name, as of the last look."""
        return self._snapshot.adapters

    def start(self) -> None:
        """Follow the database, and the tokens' issuer, from background threads until `close`."""
        self._poller.start()
        if self._verifier is not None:
            self._verifier.keys.start()

    def apply(self, settings: IdentitySettings) -> None:
        """Take on other settings while running; tokens are checked anew.

        Raises:
            ValueError: they cannot be used, in one line; nothing has changed.
        """
        before = self._verifier
        if settings.jwt != self._settings.jwt:
            after = _verifier_of(settings)
            if after is not None and self._poller.is_alive():
                after.keys.start()
            self._verifier, self._tokens = after, {}
            if before is not None:
                before.keys.close()
        self._settings = settings

    def close(self) -> None:
        """Stop following, write what is to be written, and release the database."""
        self._stopping.set()
        if self._verifier is not None:
            self._verifier.keys.close()
        if self._poller.is_alive():
            self._poller.join()
            self._write_used()
        super().close()

    def _begin(self) -> None:
        try:
            super()._begin()
        except DatabaseError as error:
            if not (self._wait and self._schema.may_wait(error)):
                raise
            self._complain(str(error))

    def refresh(self) -> bool:
        """Take over what changed since the last look; True when something did.

        Raises:
            IdentityError: the database cannot be read; the keys known so far stay valid.
        """
        with self._reload_lock:
            note = self._changes.note()
            try:
                return self._reload()
            finally:
                # Also where the database cannot be read: keys known so far stay valid, and the poller looks again.
                self._changes.seen(note)

    def _reload(self) -> bool:
        if not self._schema.passed:
            self._begin_late()
        with self._reading() as connection:
            # The revision first: a change in between is seen again at the next look, never missed.
            revision = connection.scalar(select(identity_revision.c.revision)) or 0
            if revision == self._revision:
                return False
            self._snapshot = load_snapshot(connection)
            self._principals = self._snapshot.principals
            self._tokens, self._unknown = {}, {}
            self._revision, self.is_ready = revision, True
            return True

    def _begin_late(self) -> None:
        try:
            super()._begin()
        except DatabaseError as error:
            raise IdentityError(str(error)) from error
        logger.warning("the database is there: requests are taken from now on")

    def _changed(self) -> None:
        self.refresh()

    async def _looked(self) -> bool:
        """Whether what is in memory is what the database held when this was called."""
        try:
            return await asyncio.wait_for(self._lookups.fresh(), LOOKUP_TIMEOUT_S)
        except TimeoutError:
            return False

    def _look(self) -> bool:
        try:
            self.refresh()
        except IdentityError as error:
            logger.debug("an unknown key cannot be looked up: %s", error)
            return False
        return True

    def _note_unknown(self, digest: bytes, snapshot: Snapshot) -> None:
        """Remember a key that is in no database, until something changes there."""
        unknown = self._unknown  # first: a change meanwhile replaces it after the snapshot
        if digest in snapshot.principals or digest in snapshot.suspended or snapshot is not self._snapshot:
            return
        while len(unknown) >= MAX_UNKNOWN:
            unknown.pop(next(iter(unknown)), None)
        unknown[digest] = None

    async def _make_tenant(self, name: str) -> None:
        """Make the tenant of a token, where that is allowed; see one that another process just made."""
        try:
            if self._settings.jwt.create_tenants:
                await asyncio.to_thread(self.create_tenant, name)
            else:
                await asyncio.to_thread(self.refresh)
        except AlreadyExists:
            await asyncio.to_thread(self.refresh)
        except IdentityError as error:
            logger.warning("a token's tenant cannot be looked up: %s", error)
            raise Rejected(
                "The token's tenant cannot be looked up just now.", code="identity_unavailable", status=503
            ) from None

    def _poll(self) -> None:
        write_used_at = time.monotonic() + self._settings.last_used_interval_s
        while not self._stopping.is_set():
            self._changes.wait(self._stopping, self._settings.poll_interval_s, self._revision)
            try:
                if self.refresh():
                    logger.info("keys reloaded: %d valid", len(self._principals))
                self._complaint = ""
            except IdentityError as error:
                self._complain(str(error))
            except Exception:  # were this thread to end, revoked keys would be let in for ever
                logger.exception("keys cannot be reloaded")
            if time.monotonic() >= write_used_at:
                self._write_used()
                write_used_at = time.monotonic() + self._settings.last_used_interval_s

    def _complain(self, reason: str) -> None:
        """Once, not every second; while nothing is known yet, also of another reason."""
        if not self._complaint or (reason != self._complaint and not self.is_ready):
            known = "keys known so far stay valid" if self.is_ready else "no request is taken until then"
            logger.warning("%s; %s", reason, known)
        self._complaint = reason

    def _write_used(self) -> None:
        used, self._used = self._used, set()
        try:
            if used:
                self.note_used(list(used), time.time())
        except IdentityError as error:
            logger.warning("when keys were last used is not written: %s", error)


def _verifier_of(settings: IdentitySettings) -> TokenVerifier | None:
    if settings.jwt.issuer is None:
        return None
    from serving.identity.tokens import TokenVerifier  # a gateway without tokens starts without their package

    return TokenVerifier(settings.jwt)


def _token_principal(token: VerifiedToken, snapshot: Snapshot) -> Principal:
    tenant = snapshot.tenants.get(token.tenant)
    if tenant is None:
        raise Rejected(
            f"The token is valid, but there is no tenant {token.tenant!r} here.", code="token_not_allowed", status=403
        )
    if tenant.suspended_at is not None:
        raise _suspended()
    return Principal(
        key_id=token.subject_id,
        tenant=token.tenant,
        admin=token.admin,
        models=token.models,
        endpoints=token.endpoints,
        expires_at=token.expires_at,
        weight=tenant.weight,
        priority=tenant.priority,
        tenant_limits=tenant.limits,
        budgets=tenant.budgets,
    )


def _why_not(snapshot: Snapshot, digest: bytes) -> Rejected:
    if digest in snapshot.suspended:
        return _suspended()
    if digest in snapshot.principals:
        return Rejected("The API key has expired. Ask for a new one.", code="expired_api_key")
    return Rejected(
        "The API key is not valid. Create one with 'signet keys create --tenant NAME'.", code="invalid_api_key"
    )


def _suspended() -> Rejected:
    return Rejected("The tenant is suspended. Ask an administrator.", code="tenant_suspended", status=403)
