"""Who is known: tenants with their counters, their clients, and why what these had ended.

A row here outlives what is held under it: a client by ten minutes, a tenant until it is deleted and nothing of it is
left. When and why it goes is decided here and by ``expiry``; what is held, by ``ledger``.
"""

from __future__ import annotations

from typing import Final, Protocol

from holdfast.wire.frames import Allotment
from holdfast.wire.limits import ENDED_REASON_MS

from .rows import Client, Lease, Session, Tenant
from .timers import Timers

CLIENT_BUCKETS: Final = 256
REMEMBERED_MAX: Final = 1000
"""Reasons of lost holds or ended leases kept for one lease or client, whatever their age."""


def bucket_of(tenant: int, client: int) -> int:
    """Of the tenant's client. Most tenants have few clients, whose numbers are low: they are not to share a bucket."""
    return (tenant + client) % CLIENT_BUCKETS


class Keeper(Protocol):
    """A snapshot under way: told of each piece just before it changes."""

    def slot(self, number: int) -> None: ...
    def client(self, number: int) -> None: ...


class Roster:
    def __init__(self, clock: int) -> None:
        self.clock = clock
        self.timers = Timers(clock)
        self.tenants: dict[int, Tenant] = {}
        self.clients: list[dict[tuple[int, int], Client]] = [{} for _ in range(CLIENT_BUCKETS)]
        """By tenant and number."""
        self.sessions: dict[int, dict[bytes, Session]] = {}
        """Tenant number -> session id -> its part here. Invariant: living leases only."""
        self.keeper: Keeper | None = None
        self.noteworthy: set[int] = set()
        """Tenants that were refused something for want of a share, or were given another, since a leader asked last: no
        part of the state."""

    # Tenants.

    def tenant(self, number: int) -> Tenant:
        found = self.tenants.get(number)
        if found is None:
            found = self.tenants[number] = Tenant(number)
        return found

    def allot(self, allotment: Allotment) -> None:
        tenant = self.tenant(allotment.tenant)
        tenant.allot(allotment)
        self.noteworthy.add(tenant.number)
        if tenant.is_gone and tenant.bucket is None:
            # Kept for as long as a late word of it may come, so that none finds counters that begin anew.
            self.watch_gone(tenant, self.clock)

    def watch_gone(self, tenant: Tenant, seen: int) -> None:
        tenant.seen = seen
        self.timers.add(tenant, tenant.due_key()[0])

    def forget_tenant(self, tenant: Tenant) -> None:
        """It is gone, and nothing of it is left."""
        del self.tenants[tenant.number]
        self.sessions.pop(tenant.number, None)
        self.noteworthy.discard(tenant.number)

    def note_refusal(self, tenant: Tenant, resource: int) -> None:
        """The tenant's share of ``resource`` is used up here: more of it may lie unused in another group."""
        tenant.refused[resource] += 1
        self.noteworthy.add(tenant.number)

    # Clients.

    def client(self, tenant: int, number: int) -> Client | None:
        return self.clients[bucket_of(tenant, number)].get((tenant, number))

    def session(self, tenant: Tenant, session: bytes) -> Session | None:
        """The living part of the tenant's session here, whichever client opened it."""
        return self.sessions.get(tenant.number, {}).get(session)

    def register(self, tenant: Tenant) -> Client:
        tenant.last_client += 1
        client = Client(tenant.last_client, tenant, self.clock)
        self.touch_client(client)
        self.put_client(client)
        return client

    def put_client(self, client: Client) -> None:
        tenant = client.tenant.number
        self.clients[bucket_of(tenant, client.number)][(tenant, client.number)] = client
        client.tenant.clients += 1
        self.timers.add(client, client.due_key()[0])

    def forget_client(self, client: Client) -> None:
        """It has no lease, and has not been heard of for long."""
        self.touch_client(client)
        tenant = client.tenant.number
        del self.clients[bucket_of(tenant, client.number)][(tenant, client.number)]
        client.tenant.clients -= 1

    def remember(self, client: Client, number: int, reason: int, text: str = "") -> None:
        """Why the lease or ticket ``number`` ended otherwise than its owner said."""
        self.touch_client(client)
        ended = client.ended
        ended.pop(number, None)
        ended[number] = (self.clock, reason, text)
        while len(ended) > REMEMBERED_MAX or next(iter(ended.values()))[0] < self.clock - ENDED_REASON_MS:
            del ended[next(iter(ended))]

    # Before a change, for a snapshot under way.

    def touch_client(self, client: Client) -> None:
        if self.keeper is not None:
            self.keeper.client(bucket_of(client.tenant.number, client.number))

    def touch_lease(self, lease: Lease) -> None:
        """Plain leases are written with their lock's slot, sessions with their client. Both pieces are due: a plain
        lease that changes may be about to leave its client too."""
        if self.keeper is not None:
            self.touch_client(lease.client)
            if lease.only is not None:
                self.keeper.slot(lease.only.lock.slot)

    def touch_slot(self, slot: int) -> None:
        if self.keeper is not None:
            self.keeper.slot(slot)
