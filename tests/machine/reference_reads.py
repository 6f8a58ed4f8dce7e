"""What an inspector is shown, out of the reference's lists (``docs/design.md``, 6.1 and 6.8)."""

from __future__ import annotations

from holdfast.wire.frames import Kind, Mode, Reason, Section, Status
from holdfast.wire.limits import ENDED_REASON_MS, LIST_PAGE_MAX
from holdfast.wire.names import slot_of
from tests.machine.reference import Answer, Asked, Reference, operations_of
from tests.machine.reference_rows import Client, Hold, Lease, Name

NO_SUCH: Answer = (Status.INVALID, 0, 0, None)


class Reads:
    def __init__(self, book: Reference) -> None:
        self._book = book

    def read(self, tenant: int, section: Section) -> list[Answer]:
        client = self._book.client(tenant, section.client)
        return [self._answer(tenant, client, asked) for asked in operations_of(section)]

    def _answer(self, tenant: int, client: Client | None, asked: Asked) -> Answer:
        name = (tenant, asked.name)
        if asked.kind in (Kind.GET, Kind.CHECK) and not self._book.owns(name):
            return (Status.MOVED, 0, 0, None)
        match asked.kind:
            case Kind.GET:
                return (Status.OK, 0, 0, self._view(name))
            case Kind.CHECK:
                held = any(hold.token == asked.token and not self._book.is_over(hold) for hold in self._holders(name))
                return (Status.OK, asked.token, 0, None) if held else (Status.NOT_HELD, 0, 0, None)
            case Kind.LIST:
                return self._list(tenant, asked)
            case Kind.SESSIONS:
                return self._sessions(tenant, asked)
            case Kind.HOLDS if asked.options.session:
                return (Status.OK, 0, 0, self._held(self._book.session(tenant, asked.options.session), []))
        if client is None:
            return (Status.UNREGISTERED, 0, 0, None)
        if asked.kind == Kind.TICKETS:
            return (Status.OK, 0, 0, self._ticket(client, asked))
        known = [row for row in client.ended if row[1] == asked.lease]
        return (Status.OK, 0, 0, self._held(self._book.lease(client, asked.lease), known))

    def _holders(self, name: Name) -> list[Hold]:
        return self._book.holders(name)

    def _view(self, name: Name) -> list[object]:
        book = self._book
        living = [hold for hold in self._holders(name) if hold.mode != Mode.CACHE and not book.is_over(hold)]
        closed = max(book.closed.get(name, 0) - book.clock, 0)
        holders = [self._holder(hold) for hold in living]
        return [name[1], book.capacity(name), len(book.queue(name)), holders, closed, len(living)]

    def _holder(self, hold: Hold) -> list[object]:
        lease, clock = hold.lease, self._book.clock
        leaving = hold.taken[0] if hold.taken else lease.doomed
        return [
            hold.token, hold.mode, hold.permits, lease.client.number, lease.number, lease.session,
            hold.metadata or lease.metadata, clock - hold.since, self._book.ends(hold) - clock, hold.why, leaving,
            hold.count,
        ]  # fmt: skip

    def _list(self, tenant: int, asked: Asked) -> Answer:
        book, start, after = self._book, 0, ""
        if asked.options.cursor:
            number, _, after = asked.options.cursor.partition(":")
            start = int(number)
        names = {hold.name for hold in book.holds} | {waiter.name for waiter in book.waiters} | set(book.closed)
        places = sorted(
            (slot_of(*name), name[1]) for name in names if name[0] == tenant and name[1].startswith(asked.name)
        )
        views = [(slot, self._view((tenant, name))) for slot, name in places if (slot, name) > (start, after)]
        shown = [(slot, view) for slot, view in views if view[2] or view[3] or view[4]]
        limit = page_of(asked)
        cursor = f"{shown[limit - 1][0]}:{shown[limit - 1][1][0]}" if len(shown) >= limit else ""
        return (Status.OK, 0, 0, [[view for _, view in shown[:limit]], cursor])

    def _sessions(self, tenant: int, asked: Asked) -> Answer:
        book, after = self._book, bytes.fromhex(asked.options.cursor)
        leases = sorted(book.sessions(tenant), key=lambda lease: lease.session)
        found = [lease for lease in leases if lease.session > after]
        limit = page_of(asked)
        rows = [
            [
                lease.session, lease.client.number, lease.number, lease.ttl, lease.deadline - book.clock,
                len(book.holds_of(lease)), len(book.waiters_of(lease)), lease.metadata,
            ]
            for lease in found[:limit]
        ]  # fmt: skip
        return (Status.OK, 0, 0, [rows, found[limit - 1].session.hex() if len(found) > limit else ""])

    def _held(self, lease: Lease | None, known: list[tuple[int, int, int, str]]) -> list[object]:
        """``known``: why it ended, when it has."""
        book = self._book
        if lease is None:
            reason, text = (int(known[0][2]), known[0][3]) if known else (int(Reason.RELEASED), "")
            return [0, reason, [], [], [], text]
        held = [
            [hold.name[1], hold.token, hold.seq, book.ends(hold) - hold.asked, self._holder(hold)[10]]
            for hold in book.holds_of(lease)
            if not book.is_over(hold)
        ]
        waiting = [waiter.seq for waiter in book.waiters_of(lease)]
        lost = [
            [name, token, reason] for when, name, token, reason in lease.lost if book.clock - when <= ENDED_REASON_MS
        ]
        return [lease.change, lease.dead or lease.doomed, held, waiting, lost, lease.text]

    def _ticket(self, client: Client, asked: Asked) -> list[object]:
        book, seq = self._book, asked.token
        lease = book.lease(client, asked.lease or seq)
        if lease is not None and not lease.dead:
            for waiter in book.waiters_of(lease):
                if waiter.seq == seq:
                    deadline = lease.deadline - waiter.asked
                    return [seq, int(Status.QUEUED), 0, deadline, 0, asked.name, lease.number]
            for hold in book.holds_of(lease):
                if hold.seq == seq and not book.is_over(hold):
                    deadline, leaving = book.ends(hold) - hold.asked, self._holder(hold)[10]
                    return [seq, int(Status.OK), hold.token, deadline, leaving, hold.name[1], lease.number]
        known = [row for number in (seq, asked.lease) for row in client.ended if row[1] == number]
        return [seq, int(Status.NOT_HELD), 0, 0, known[0][2] if known else 0, asked.name, asked.lease or seq]


def page_of(asked: Asked) -> int:
    return asked.options.limit if 0 < asked.options.limit <= LIST_PAGE_MAX else LIST_PAGE_MAX
