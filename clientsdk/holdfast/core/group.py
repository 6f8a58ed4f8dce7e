"""This process as the client of one shard group: its number there, its leases, its tickets, what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.wire.errors import Code, HoldfastError, Rejected
from holdfast.wire.frames import Event, EventKind, Kind, Reason, Section, Status, decode_answers, encode
from holdfast.wire.messages import GroupRole, Msg, Refusal, Request

from .batch import RETRY_MS_MAX
from .lane import OVERDUE_MS, Lane
from .lease import Lease
from .write_lane import WriteLane

if TYPE_CHECKING:
    from .client import ClientCore
    from .hold import Hold
    from .session import SessionPart

RELEASE: Final = int(Kind.RELEASE)
CANCEL: Final = int(Kind.CANCEL)
END: Final = int(Kind.END)

_REGISTER = encode(Section(0, 0, bytes([Kind.REGISTER]), [0], [""], [0], [0], [0], [0], {}))


class GroupClient:
    def __init__(self, core: ClientCore, number: int) -> None:
        self.core = core
        self.number = number
        self.wheel = core.leases
        self.writes = WriteLane(core, number, self.unregistered)
        self.reads = Lane(core, number)
        self.leases: dict[int, Lease] = {}
        self.opening: dict[SessionPart, None] = {}
        """Parts of sessions whose opening is not answered."""
        self.tickets: dict[int, Hold] = {}
        """Acquires that wait, by seq."""
        self.early: dict[int, list[Event]] = {}
        """Events that overtook the answer to their acquire, by its seq."""
        self._leader = (0, 0)
        self._registering = 0
        """Request that asks for a number; 0 when none does."""
        self._register_ms = 0.0
        """When to ask again; while a request is under way: when it must be taken for lost."""

    @property
    def busy(self) -> bool:
        """Whether an answer is owed to us."""
        return bool(self._registering) or self.writes.busy or self.reads.busy

    def flush(self, now_ms: float) -> None:
        if self.writes.client == 0 and self.writes.waiting and not self._registering:
            self._register(now_ms)
        self.writes.flush(now_ms)
        self.reads.flush(now_ms)

    def advance(self, now_ms: float) -> None:
        self.writes.expire(now_ms)
        self.reads.expire(now_ms)
        if self._registering and now_ms >= self._register_ms:
            self._registering = 0

    def next_due_ms(self) -> float:
        return min(self.writes.next_due_ms(), self.reads.next_due_ms())

    def disconnected(self) -> None:
        self._registering = 0
        self._register_ms = 0.0
        self.writes.disconnected()
        self.reads.disconnected()

    # Registration.

    def _register(self, now_ms: float) -> None:
        if now_ms < self._register_ms:
            self.core.wake(self._register_ms)
            return
        body = encode(Request(int(self.core.timeout_ms), msgspec.Raw(_REGISTER)))
        self._registering = self.core.transmit(self, Msg.OPS, self.number, body)
        self._register_ms = now_ms + self.core.timeout_ms + OVERDUE_MS

    def answered(self, request: int, body: bytes) -> None:
        """The answer to our registration."""
        answers = decode_answers(body)
        if request != self._registering:
            return
        self._registering = 0
        self._register_ms = 0.0
        if answers.statuses == bytes([Status.OK]):
            self.writes.registered(answers.tokens[0])
            self.reads.client = answers.tokens[0]
        else:
            self._register_ms = self.core.clock() + RETRY_MS_MAX
        self.core.flush_soon()

    def refused(self, request: int, refusal: Refusal) -> None:
        if request != self._registering:
            return
        self._registering = 0
        self.core.trouble = refusal.message
        if refusal.code == Code.THROTTLED:
            self.writes.hold_back(refusal)
        self._register_ms = self.core.clock() + refusal.retry_after_ms + RETRY_MS_MAX * self.core.rng.random()
        self.core.wake(self._register_ms)

    def unregistered(self) -> None:
        """The group has forgotten this process, so every lease of it is long over: start anew under a new number."""
        self.writes.unregister()
        self.reads.client = 0
        self.early.clear()
        for lease in list(self.leases.values()):
            lease.end(Reason.EXPIRED, "the service does not know this client any more")
        self.core.flush_soon()

    def let_go(self) -> None:
        """End every lease at once: the client is being closed."""
        for part in list(self.opening):
            part.finish()
        for lease in list(self.leases.values()):
            number = lease.number
            lease.end(Reason.RELEASED, "the client was closed")
            self.end_lease(number)

    # Letting go of what nobody wants.

    def give_back(self, name: str, token: int) -> None:
        """Release a grant that nobody can use."""
        _Errand(self, RELEASE, name, 0, token)

    def end_lease(self, number: int) -> None:
        """End a lease with all that it holds and awaits."""
        _Errand(self, END, "", number, 0)

    def cancel(self, seq: int, name: str, lease: int) -> None:
        """Make the acquire ``seq`` come to nothing, whatever has become or will become of it."""
        self.early.pop(seq, None)
        if self.writes.is_open(seq):
            self.writes.pin(seq)
        _Errand(self, CANCEL, name, lease, seq)

    # Events.

    def event(self, event: Event) -> None:
        if event.client != self.writes.client:
            return
        if event.kind == EventKind.GRANTED:
            self._granted(event)
        elif event.kind == EventKind.ENDED:
            self._ended(event)
        elif event.kind == EventKind.LOST:
            self._lost(event)
        elif event.kind == EventKind.RECALL:
            # A cached "not held": whoever cached it lets go of it when told that it is lost.
            lease = self.leases.get(event.lease)
            if lease is not None:
                lease.lost(event.token, Reason.NONE, "somebody queues for it")

    def replay(self, seq: int) -> None:
        """The acquire ``seq`` has been answered: now its early events make sense."""
        for event in self.early.pop(seq, ()):
            self.event(event)

    def _keep_early(self, event: Event, seq: int) -> bool:
        if not self.writes.is_open(seq) or self.writes.is_pinned(seq):
            return False
        self.early.setdefault(seq, []).append(event)
        return True

    def _granted(self, event: Event) -> None:
        hold = self.tickets.get(event.seq)
        lease = self.leases.get(event.lease)
        if hold is not None:
            hold.granted(event.token)
        elif self._keep_early(event, event.seq):
            return
        if lease is not None:
            lease.note_change(event.change)

    def _ended(self, event: Event) -> None:
        hold = self.tickets.get(event.seq)
        if hold is None and self._keep_early(event, event.seq):
            return
        lease = self.leases.get(event.lease)
        if hold is not None:
            hold.ticket_ended(Reason(event.reason))
        self._note(lease, event.change)

    def _lost(self, event: Event) -> None:
        lease = self.leases.get(event.lease)
        if lease is None:
            self._keep_early(event, event.lease)
            return
        lease.lost(event.token, Reason(event.reason), event.text)
        self._note(lease, event.change)

    def _note(self, lease: Lease | None, change: int) -> None:
        if lease is not None and self.leases.get(lease.number) is lease:
            lease.note_change(change)

    # Doubt.

    def role(self, role: GroupRole) -> None:
        """Who leads the group. Another leader may have granted what the one before could not tell us."""
        if role.ready and (role.term, role.node) != self._leader:
            known, self._leader = self._leader, (role.term, role.node)
            if known != (0, 0):
                self.ask_tickets()

    def ask_tickets(self) -> None:
        """Events may have been lost: ask what has become of every open ticket."""
        for hold in self.tickets.values():
            hold.ask_ticket()


class _Errand:
    """An operation that nobody waits for, carried out however long it takes."""

    __slots__ = ("_client", "_group", "_kind", "_lease", "_name", "_token")

    def __init__(self, group: GroupClient, kind: int, name: str, lease: int, token: int) -> None:
        self._group = group
        self._client = group.writes.client
        self._kind = kind
        self._name = name
        self._lease = lease
        self._token = token
        self._issue()

    def _issue(self) -> None:
        # Under another number of ours the lease in question is over, and the seq means something else.
        if self._client and self._group.writes.client == self._client and not self._group.core.closed:
            self._group.writes.call(self, self._kind, self._name, self._lease, self._token)

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        if kind == CANCEL and self._group.writes.client == self._client:
            self._group.writes.unpin(self._token)

    def failed(self, kind: int, error: HoldfastError) -> None:
        if isinstance(error, Rejected):
            self._group.core.after(RETRY_MS_MAX, self._issue)
