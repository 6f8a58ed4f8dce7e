"""What is true of a lock machine's rows between any two entries."""

from __future__ import annotations

from holdfast.wire.frames import Mode
from holdfast_shard.machine import LockMachine


def check(machine: LockMachine) -> None:
    ledger = machine._ledger
    held: dict[int, int] = {}
    waiting: dict[int, int] = {}
    for slot, table in enumerate(ledger.tables):
        for tenant, names in table.items():
            for name, lock in names.items():
                assert (lock.slot, lock.tenant.number, lock.name) == (slot, tenant, name)
                assert ledger.tenants[tenant] is lock.tenant
                assert lock.holders or lock.queue or lock.closed_until > ledger.clock, "a free lock leaves no row"
                tokens = [hold.token for hold in lock.holders]
                assert tokens == sorted(set(tokens))
                assert all(0 < token <= lock.tenant.last_token for token in tokens)
                modes = {hold.mode for hold in lock.holders}
                assert len(modes) <= 1
                assert Mode.EXCLUSIVE not in modes or len(lock.holders) == 1, "never two holders"
                assert lock.used == sum(hold.permits for hold in lock.holders)
                assert Mode.PERMITS not in modes or lock.used <= lock.capacity
                for hold in lock.holders:
                    assert hold in hold.lease.holds()
                    if hold.mode != Mode.CACHE and not ledger.is_over(hold):
                        held[tenant] = held.get(tenant, 0) + 1
                queue = list(lock.queue.values()) if lock.queue is not None else []
                for waiter in queue:
                    assert waiter in waiter.lease.waiters()
                    if not ledger.is_void(waiter):
                        waiting[tenant] = waiting.get(tenant, 0) + 1
                if queue and not ledger.dying and lock.closed_until <= ledger.clock:
                    assert not ledger.is_void(queue[0])
                    assert not ledger.fits(lock, queue[0].mode, queue[0].permits), "whoever can be granted is granted"
    for number, tenant_row in ledger.tenants.items():
        assert tenant_row.held == held.get(number, 0)
        assert tenant_row.waiters == waiting.get(number, 0)
        assert tenant_row.sessions == len(ledger.sessions.get(number, {}))
        assert tenant_row.held <= tenant_row.held_max
        assert tenant_row.waiters <= tenant_row.waiters_max
    clients: dict[int, int] = {}
    for bucket in ledger.clients:
        for key, client in bucket.items():
            assert key == (client.tenant.number, client.number)
            assert ledger.tenants[client.tenant.number] is client.tenant
            clients[client.tenant.number] = clients.get(client.tenant.number, 0) + 1
            assert 0 < client.number <= client.tenant.last_client
            assert all(seq >= client.floor for seq in client.answers)
            for lease in client.leases.values():
                assert lease.dead or lease.deadline > ledger.clock, "what has run out is marked"
                assert lease.session or lease.size() == 1, "a plain lease goes with what it has"
    for number, tenant_row in ledger.tenants.items():
        assert tenant_row.clients == clients.get(number, 0)
        assert (tenant_row.bucket is not None) == tenant_row.is_gone
