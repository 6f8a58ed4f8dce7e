"""What the router knows of its cluster by watch: tenants, keys, members, slots; who a key belongs to; how fresh it is.

Only the word of the meta group's leader keeps it fresh. A router that has not had it for ``silence_s`` cannot know
whether a key was revoked meanwhile, so it admits nobody and nothing new; what holders need goes on.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Set

import msgspec

from holdfast.wire.crowd import FailedLogins
from holdfast.wire.errors import (
    Forbidden,
    HoldfastError,
    OutcomeUnknown,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from holdfast.wire.frames import Kind
from holdfast.wire.keys import DIGEST_BYTES, SALT_BYTES, SECRET_CHARS, is_secret_of, split_key
from holdfast.wire.limits import FAILED_LOGINS_BURST
from holdfast.wire.messages import Beat, MetaDelta, MetaRecord
from holdfast.wire.tenants import ApiKey, KeyRole, Principal, Quotas, Tenant, TenantState

META_SILENCE_S = 10.0
"""HOLDFAST_META_SILENCE_S, ``--meta-silence``."""

WITHOUT_META = bytes(
    [
        *(Kind.RELEASE, Kind.RENEW, Kind.KEEPALIVE, Kind.CANCEL, Kind.END),
        *(Kind.GET, Kind.CHECK, Kind.LIST, Kind.HOLDS, Kind.TICKETS, Kind.SESSIONS),
    ]
)
"""What a stale router still takes: holders must not lose their locks because the meta group is down."""

replace = msgspec.structs.replace

_NOBODY = ApiKey("", "", KeyRole.READ, "", bytes(SALT_BYTES), bytes(DIGEST_BYTES), 0)
_NOTHING = Quotas(0, 0, 0, 0, 0, 0, 0, 0, 0)
_NO_SECRET = "-" * SECRET_CHARS

Gone = Mapping[str, HoldfastError]
"""Ids of keys that are valid no more, and what their streams are told."""


class Directory:
    def __init__(self, clock: Callable[[], float], silence_s: float = META_SILENCE_S) -> None:
        """``clock``: seconds, monotonic."""
        self._clock = clock
        self.silence_s = silence_s
        self._heard_at: float | None = None
        self.record: MetaRecord | None = None
        """Without the tenants; its version is that of the whole."""
        self.routers = 1
        """How many routers are alive, this one included, as the meta group's leader counts them."""
        self._tenants: dict[int, Tenant] = {}
        self._by_id: dict[str, Tenant] = {}
        self._keys: dict[str, tuple[Tenant, ApiKey]] = {}
        self._failed_logins = FailedLogins(clock)
        self._on_gone: list[Callable[[Gone], None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    # What the watch says.

    def adopt(self, record: MetaRecord) -> bool:
        """The whole record. Returns whether it is newer than what is known."""
        if self.record is not None and record.version <= self.record.version:
            return False
        before = self._tenants
        changed = [tenant for tenant in record.tenants if before.get(tenant.number) != tenant]
        deleted = before.keys() - {tenant.number for tenant in record.tenants}
        self._put(replace(record, tenants=()), changed, deleted)
        return True

    def follow(self, delta: MetaDelta) -> bool:
        if self.record is None or not delta.base <= self.record.version < delta.version:
            return False
        said = {"nodes": delta.nodes, "groups": delta.groups, "table": delta.table}
        others = {name: value for name, value in said.items() if value is not None}
        self._put(replace(self.record, version=delta.version, **others), delta.changed, delta.deleted)
        return True

    def beat(self, beat: Beat) -> None:
        if self.record is not None and self.record.version >= beat.version:
            self._heard_at = self._clock()
            self.routers = max(beat.routers, 1)

    def _put(self, record: MetaRecord, changed: Collection[Tenant], deleted: Collection[int]) -> None:
        """Costs what has changed: there may be many tenants, and every change is heard by every router."""
        self.record = record
        before: list[tuple[Tenant, ApiKey]] = []
        for number in (*deleted, *(tenant.number for tenant in changed)):
            known = self._tenants.pop(number, None)
            if known is not None:
                del self._by_id[known.id]
                for key in known.keys:
                    del self._keys[key.id]
                    before.append((known, key))
        for tenant in changed:
            self._tenants[tenant.number] = self._by_id[tenant.id] = tenant
            self._keys.update((key.id, (tenant, key)) for key in tenant.keys)
        gone = {key.id: error for tenant, key in before if (error := self._why_gone(tenant, key)) is not None}
        for version, waiting in [entry for entry in self._waiting if entry[0] <= record.version]:
            self._waiting.remove((version, waiting))
            if not waiting.done():
                waiting.set_result(None)
        if gone:
            for listener in self._on_gone:
                listener(gone)

    def _why_gone(self, tenant: Tenant, key: ApiKey) -> HoldfastError | None:
        now = self._keys.get(key.id)
        if now is None or now[1] != key:
            return Unauthenticated("this API key was revoked")
        if now[0].state != TenantState.ACTIVE and tenant.state == TenantState.ACTIVE:
            return _suspended(now[0])
        return None

    def on_gone(self, listener: Callable[[Gone], None]) -> None:
        """Called in the moment in which keys end, by revocation or because their tenant is suspended or deleted:
        streams of theirs are to be closed at once."""
        self._on_gone.append(listener)

    async def reached(self, version: int, wait_s: float) -> None:
        """Return when the record of this version is known here. Raises :class:`OutcomeUnknown` when it does not
        come."""
        if self.record is not None and self.record.version >= version:
            return
        entry = (version, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(wait_s):
                await entry[1]
        except TimeoutError:
            raise OutcomeUnknown("the change was made, but this router has not heard of it yet: look again") from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    # What others ask.

    @property
    def fresh_for_s(self) -> float:
        """Seconds, when nothing more is heard of the meta group; 0 when it is silent already."""
        if self._heard_at is None:
            return 0.0
        return max(self.silence_s - (self._clock() - self._heard_at), 0.0)

    @property
    def is_fresh(self) -> bool:
        return self.fresh_for_s > 0

    def check_fresh(self) -> None:
        """Raises :class:`Unavailable` when nothing new may be admitted."""
        if not self.is_fresh:
            raise Unavailable("this router has not heard from the meta group: it admits nothing new; try another")

    def tenant(self, number: int) -> Tenant | None:
        return self._tenants.get(number)

    def quotas(self, number: int) -> Quotas:
        """The same object for as long as the tenant does not change; of one that is gone, nothing."""
        found = self._tenants.get(number)
        return found.quotas if found is not None else _NOTHING

    def named(self, text: str) -> Tenant | None:
        """By its id, as people write it."""
        return self._by_id.get(text)

    @property
    def numbers(self) -> Set[int]:
        """Of all tenants."""
        return self._tenants.keys()

    @property
    def tenants(self) -> list[Tenant]:
        return list(self._tenants.values())

    def key(self, number: str) -> tuple[Tenant, ApiKey] | None:
        return self._keys.get(number)

    def authenticate(self, text: str, address: str = "") -> Principal:
        """Whose key this is. Raises :class:`Unauthenticated`; :class:`Forbidden` when its tenant is suspended;
        :class:`Throttled` when too many wrong ones came from ``address`` (empty for a caller that was let in before).

        A key that is unknown or malformed costs what a known one costs, so that time tells nobody which ids exist. A
        right one is never refused for the wrong ones of others: over HTTP and gRPC every renewal shows its key, and
        strangers behind the same proxy must not cost anybody a lock.
        """
        parts = split_key(text)
        number, secret = parts if parts is not None else ("", _NO_SECRET)
        found = self._keys.get(number)
        right = is_secret_of(found[1] if found is not None else _NOBODY, secret)
        if found is None or not right:
            if address:
                self._note_failure(address)
            raise Unauthenticated("this API key is unknown: set HOLDFAST_API_KEY to a key of this cluster")
        tenant, key = found
        if tenant.state != TenantState.ACTIVE:
            raise _suspended(tenant)
        return Principal(tenant.number, key.id, KeyRole(key.role), key.prefix)

    def _note_failure(self, address: str) -> None:
        """Raises :class:`Throttled` when there were too many."""
        wait_ms = math.ceil(self._failed_logins.wait_s(address) * 1000)
        if wait_ms:
            told = f"too many wrong API keys came from this address: another is looked at in {wait_ms} ms"
            raise Throttled(told, wait_ms, "failed_logins", FAILED_LOGINS_BURST)
        self._failed_logins.failed(address)


def _suspended(tenant: Tenant) -> Forbidden:
    return Forbidden(f"tenant {tenant.id} is suspended: ask the operator of this cluster")
