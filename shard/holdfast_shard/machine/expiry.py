"""What time does: mark everything that has run out, then free it, to the living only and a bounded part per entry."""

from __future__ import annotations

from holdfast.wire import limits

from .ledger import EXPIRED, TIMED_OUT, Ledger
from .rows import CACHE, Client, Hold, Lease, Lock, Tenant, Waiter
from .timers import Timed


class Expiry:
    __slots__ = ("_ledger",)

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def advance(self, clock: int) -> None:
        """The group clock has come to ``clock``; called once at the beginning of an entry."""
        ledger = self._ledger
        ledger.clock = clock
        ledger.budget = limits.FREED_PER_ENTRY_MAX
        due = ledger.timers.take(clock)
        if due:
            self._mark(due)
        self.settle()

    def _mark(self, due: list[Timed]) -> None:
        """Nothing passes on before all is marked: nobody is granted anything whose own time was over by then."""
        ledger = self._ledger
        opened: list[Lock] = []
        leases: list[Lease] = []
        gone: list[Tenant] = []
        for item in due:
            if isinstance(item, Lease):
                leases.append(item)
            elif isinstance(item, Hold):
                self._mark_hold(item)
            elif isinstance(item, Waiter):
                self._mark_waiter(item)
            elif isinstance(item, Lock):
                opened.append(item)
            elif isinstance(item, Tenant):
                gone.append(item)
            else:
                assert isinstance(item, Client)
                self._forget(item)
        # After single holds and waiters, which must not be counted out twice.
        for lease in leases:
            ledger.kill(lease, lease.doomed or EXPIRED)
        for lock in opened:
            ledger.touch_slot(lock.slot)
            ledger.show(lock)
            ledger.pass_on(lock)
        # After its clients and its names.
        for tenant in gone:
            if tenant.clients:
                ledger.watch_gone(tenant, ledger.clock)
            else:
                ledger.forget_tenant(tenant)

    def _mark_hold(self, hold: Hold) -> None:
        if hold.mode != CACHE and not hold.lease.dead:
            hold.lock.tenant.held -= 1
        self._ledger.dying.append(hold)

    def _mark_waiter(self, waiter: Waiter) -> None:
        if not waiter.lease.dead and not waiter.lease.doomed:
            waiter.lock.tenant.waiters -= 1
        self._ledger.dying.append(waiter)

    def _forget(self, client: Client) -> None:
        ledger = self._ledger
        if client.leases:
            ledger.touch_client(client)
            client.seen = ledger.clock
            ledger.timers.add(client, client.due_key()[0])
        else:
            ledger.forget_client(client)

    def settle(self) -> None:
        """Free what is over, up to ``FREED_PER_ENTRY_MAX`` holds and waiters for one entry."""
        dying = self._ledger.dying
        while dying and self._ledger.budget > 0:
            item = dying[0]
            if isinstance(item, Lease):
                if not self._drain(item):
                    return
            elif isinstance(item, Hold):
                if self._ledger.hold_of(item.lock, item.token) is item:
                    self._free_hold(item)
            elif item.lock.queue is not None and item.lock.queue.get((item.lease.client.number, item.seq)) is item:
                self._end_ticket(item, TIMED_OUT)
            dying.popleft()

    def _drain(self, lease: Lease) -> bool:
        """Free what a lease has that is dead, or of one that is being ended the waiters; False when the budget ran out
        first."""
        for waiter in lease.waiters():
            if self._ledger.budget <= 0:
                return False
            self._end_ticket(waiter, lease.dead or lease.doomed)
        if not lease.dead:
            return True
        for hold in lease.holds():
            if self._ledger.budget <= 0:
                return False
            self._free_hold(hold)
        if lease.client.leases.get(lease.number) is lease:
            self._ledger.bury(lease)
        return True

    def _free_hold(self, hold: Hold) -> None:
        self._ledger.budget -= 1
        self._ledger.release_dead(hold)

    def _end_ticket(self, waiter: Waiter, reason: int) -> None:
        self._ledger.budget -= 1
        lock = waiter.lock
        self._ledger.end_ticket(waiter, reason)
        self._ledger.pass_on(lock)
