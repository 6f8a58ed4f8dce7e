"""Rows of the lock machine: plain data; ``ledger`` changes it. Times are milliseconds of the group clock."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from holdfast.wire.limits import (
    CLIENT_IDLE_MS,
    DEFAULT_HELD_MAX,
    DEFAULT_SESSIONS_MAX,
    DEFAULT_WAITERS_MAX,
)

from .timers import UNTIMED, Key

Answer = tuple[int, int, int, Any]
"""(status, token, deadline relative to the operation's own reading, detail)."""

KIND_LEASE: Final = 0
KIND_WAITER: Final = 1
KIND_HOLD: Final = 2
KIND_CLOSING: Final = 3
KIND_CLIENT: Final = 4

PLAIN = b""


class Tenant:
    """Exact counts of one tenant in this group, and its allotment."""

    __slots__ = ("held", "held_max", "number", "sessions", "sessions_max", "version", "waiters", "waiters_max")

    def __init__(self, number: int) -> None:
        self.number = number
        self.held = self.waiters = self.sessions = 0
        self.version = 0
        self.held_max = DEFAULT_HELD_MAX
        self.waiters_max = DEFAULT_WAITERS_MAX
        self.sessions_max = DEFAULT_SESSIONS_MAX


class Client:
    """Invariant: ``answers`` holds exactly the answered operations from ``floor`` on; fewer than 4,096."""

    __slots__ = ("answers", "bucket", "ended", "floor", "leases", "number", "seen", "tenant")

    def __init__(self, number: int, tenant: Tenant, seen: int) -> None:
        self.number = number
        self.tenant = tenant
        self.floor = 1
        self.answers: dict[int, Answer] = {}
        self.leases: dict[int, Lease] = {}
        self.ended: dict[int, tuple[int, int, str]] = {}
        """Lease number -> (when, reason, text) of leases that ended otherwise than by release."""
        self.seen = seen
        """When it last sent an operation or lost its last lease."""
        self.bucket = UNTIMED

    def due_key(self) -> Key:
        return (self.seen + CLIENT_IDLE_MS, KIND_CLIENT, self.number, 0, "")


class Lease:
    """A plain lease (``session`` empty) has at most one hold or one waiter; a session any number."""

    __slots__ = (
        "bucket", "change", "client", "dead", "deadline", "doomed", "held", "lost", "metadata",
        "number", "only", "session", "text", "ttl", "waiting",
    )  # fmt: skip

    def __init__(self, client: Client, number: int, session: bytes, ttl: int, deadline: int) -> None:
        self.client = client
        self.number = number
        self.session = session
        self.ttl = ttl
        self.deadline = deadline
        self.change = 0
        self.dead = 0
        """Reason once it has ended. Invariant: a dead lease gets nothing and extends nothing."""
        self.doomed = 0
        """Reason once it is being taken away: it is not extended any more."""
        self.text = ""
        self.metadata = b""
        self.only: Hold | Waiter | None = None
        """What a plain lease has; a dict for one would double the memory of a held lock."""
        self.held: dict[int, Hold] | None = {} if session else None
        """A session's holds, by token. Invariant: in the order of their tokens."""
        self.waiting: dict[int, Waiter] | None = {} if session else None
        """A session's waiters, by seq."""
        self.lost: list[tuple[int, str, int, int, str]] | None = None
        """(when, name, token, reason, text) of holds a living session lost."""
        self.bucket = UNTIMED

    def due_key(self) -> Key:
        return (self.deadline, KIND_LEASE, self.client.number, self.number, "")

    def holds(self) -> list[Hold]:
        if self.held is not None:
            return list(self.held.values())
        return [self.only] if isinstance(self.only, Hold) else []

    def waiters(self) -> list[Waiter]:
        if self.waiting is not None:
            # By seq: the order of arrival would not survive a snapshot.
            return sorted(self.waiting.values(), key=lambda waiter: waiter.seq)
        return [self.only] if isinstance(self.only, Waiter) else []

    def size(self) -> int:
        """Holds and waiters together."""
        if self.held is None or self.waiting is None:
            return 0 if self.only is None else 1
        return len(self.held) + len(self.waiting)

    def attach_hold(self, hold: Hold) -> None:
        if self.held is not None:
            self.held[hold.token] = hold
        else:
            self.only = hold

    def attach_waiter(self, waiter: Waiter) -> None:
        if self.waiting is not None:
            self.waiting[waiter.seq] = waiter
        else:
            self.only = waiter

    def detach(self, item: Hold | Waiter) -> None:
        if self.held is None or self.waiting is None:
            self.only = None
        elif isinstance(item, Hold):
            del self.held[item.token]
        else:
            del self.waiting[item.seq]

    def find_seq(self, seq: int) -> Hold | Waiter | None:
        """What the acquire ``seq`` got."""
        if self.held is None or self.waiting is None:
            return self.only if self.only is not None and self.only.seq == seq else None
        waiter = self.waiting.get(seq)
        if waiter is not None:
            return waiter
        return next((hold for hold in self.held.values() if hold.seq == seq), None)


class Lock:
    """A name that is held, awaited or closed; a free lock has no row."""

    __slots__ = ("bucket", "capacity", "closed_until", "holders", "name", "queue", "slot", "tenant", "used")

    def __init__(self, tenant: Tenant, slot: int, name: str) -> None:
        self.tenant = tenant
        self.slot = slot
        self.name = name
        self.holders: list[Hold] = []
        """Invariant: all of one mode, and one alone when that is exclusive."""
        self.used = 0
        """Permits of all holders."""
        self.queue: OrderedDict[tuple[int, int], Waiter] | None = None
        """By (client, seq), head first; None when nobody waits."""
        self.capacity = 0
        """Of the semaphore, while anybody holds or awaits permits of it."""
        self.closed_until = 0
        self.bucket = UNTIMED

    def due_key(self) -> Key:
        return (self.closed_until, KIND_CLOSING, self.tenant.number, 0, self.name)


class Waiter:
    __slots__ = (
        "asked", "bucket", "capacity", "lease", "lock", "lock_delay", "metadata", "mode", "patient",
        "permits", "seq", "steals", "until",
    )  # fmt: skip

    def __init__(self, lock: Lock, lease: Lease, seq: int, asked: int, until: int) -> None:
        self.lock = lock
        self.lease = lease
        self.seq = seq
        self.asked = asked
        """Reading of the entry that carried the acquire: deadlines told to the client count from it."""
        self.until = until
        self.mode = 0
        self.permits = 1
        self.capacity = 1
        self.metadata = b""
        self.lock_delay = 0
        self.steals = False
        self.patient = True
        """False for a try: it waits for cachers alone."""
        self.bucket = UNTIMED

    def due_key(self) -> Key:
        return (self.until, KIND_WAITER, self.lease.client.number, self.seq, "")


class Hold:
    __slots__ = (
        "asked", "bucket", "count", "lease", "leaving", "lock", "lock_delay", "metadata", "mode", "permits",
        "seq", "since", "text", "token", "told", "why",
    )  # fmt: skip

    def __init__(self, lock: Lock, lease: Lease, token: int, since: int) -> None:
        self.lock = lock
        self.lease = lease
        self.token = token
        self.since = since
        self.seq = 0
        self.asked = since
        self.mode = 0
        self.permits = 1
        self.count = 1
        self.metadata = b""
        self.lock_delay = 0
        self.why = 0
        self.leaving = 0
        """Reason once it is being taken away."""
        self.told = 0
        """The last deadline its holder was told; set when it begins to leave."""
        self.text = ""
        self.bucket = UNTIMED

    def due_key(self) -> Key:
        return (self.told, KIND_HOLD, self.lease.client.number, self.token, "")
