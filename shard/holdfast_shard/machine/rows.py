"""Rows of the lock machine: plain data; ``ledger`` changes it. Times are milliseconds of the group clock."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from operator import attrgetter
from typing import Any, Final

from holdfast.wire.frames import GONE, Allotment, Mode
from holdfast.wire.limits import CLIENT_IDLE_MS, METADATA_BYTES_MAX, TTL_MS_MAX, WAITERS_PER_LOCK_MAX

from .timers import Bucket, Key

Answer = tuple[int, int, int, Any]
"""(status, token, deadline relative to the operation's own reading, detail)."""

KIND_LEASE: Final = 0
KIND_WAITER: Final = 1
KIND_HOLD: Final = 2
KIND_CLOSING: Final = 3
KIND_CLIENT: Final = 4
KIND_TENANT: Final = 5

EXCLUSIVE, SHARED, PERMITS, CACHE = (int(mode) for mode in (Mode.EXCLUSIVE, Mode.SHARED, Mode.PERMITS, Mode.CACHE))

OF_HELD, OF_WAITERS, OF_SESSIONS = 0, 1, 2
"""What a tenant has shares of."""

_token_of = attrgetter("token")

FREE, QUEUED, STOLEN = 0, 1, 2
"""How a hold was had (``Hold.why``)."""


class Tenant:
    """Exact counts of one tenant in this group, and its allotment: nothing until it is told. What is over is not
    counted, also before its row is gone; cache holds never are."""

    __slots__ = (
        "bucket", "clients", "held", "held_max", "last_client", "last_token", "metadata_max", "number", "refused",
        "seen", "sessions", "sessions_max", "ttl_max", "version", "waiters", "waiters_max", "waiters_per_lock",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.last_token = 0
        """Invariant: never falls, so that tokens rise for every name. The tenant's own, so that no gap tells it of
        others; the same of the next."""
        self.last_client = 0
        self.held = self.waiters = self.sessions = 0
        self.clients = 0
        """Rows of clients. Invariant: when there are none, nothing else is left: a client outlives what it had, and a
        lock delay is shorter than that."""
        self.seen = 0
        """Of one that is gone: when it was told so, or had clients last."""
        self.bucket: Bucket | None = None
        """Timed only when it is gone."""
        self.version = 0
        self.held_max = self.waiters_max = self.sessions_max = 0
        self.waiters_per_lock = WAITERS_PER_LOCK_MAX
        self.ttl_max = TTL_MS_MAX
        """Milliseconds. Invariant: this and the two beside it never exceed the service's own limits."""
        self.metadata_max = METADATA_BYTES_MAX
        self.refused = [0, 0, 0]
        """Locks, waiters and sessions that found the share used up, since a leader asked last: no part of the state."""

    def allot(self, allotment: Allotment) -> None:
        """Only a higher version counts."""
        if allotment.version <= self.version:
            return
        self.version = allotment.version
        self.held_max, self.waiters_max = allotment.held, allotment.waiters
        self.sessions_max = allotment.sessions
        self.waiters_per_lock = min(allotment.waiters_per_lock, WAITERS_PER_LOCK_MAX)
        self.ttl_max = min(allotment.ttl_ms, TTL_MS_MAX)
        self.metadata_max = min(allotment.metadata_bytes, METADATA_BYTES_MAX)

    @property
    def is_gone(self) -> bool:
        """Deleted: it gets nothing any more, and its row goes when nothing is left of it."""
        return self.version == GONE

    def due_key(self) -> Key:
        return (self.seen + CLIENT_IDLE_MS, KIND_TENANT, self.number, 0, 0, "")

    @property
    def allotment(self) -> Allotment:
        return Allotment(
            self.number, self.version, self.held_max, self.waiters_max, self.sessions_max, self.waiters_per_lock,
            self.ttl_max, self.metadata_max,
        )  # fmt: skip


class Client:
    """Known by its tenant and its number. Invariant: ``answers`` holds exactly the answered operations from ``floor``
    on; at most 4,096."""

    __slots__ = ("answers", "bucket", "ended", "floor", "leases", "number", "seen", "tenant")

    def __init__(self, number: int, tenant: Tenant, seen: int) -> None:
        self.number = number
        self.tenant = tenant
        self.floor = 1
        self.answers: dict[int, Answer] = {}
        self.leases: dict[int, Lease] = {}
        self.ended: dict[int, tuple[int, int, str]] = {}
        """Number of a lease, or seq of a ticket, that ended otherwise than its owner said -> (when, reason, text)."""
        self.seen = seen
        """When it last sent an operation or lost its last lease."""
        self.bucket: Bucket | None = None

    def due_key(self) -> Key:
        return (self.seen + CLIENT_IDLE_MS, KIND_CLIENT, self.tenant.number, self.number, 0, "")


class Lease:
    """A plain lease: that of one lock, numbered by its acquire's seq. It goes with the hold or the waiter it has.

    Most leases are plain and live for one hold, so what only a session needs is a constant here.
    """

    __slots__ = ("bucket", "change", "client", "dead", "deadline", "number", "only")

    session = b""
    doomed = 0
    """Reason once another is ending the session: it is not extended any more, and gets nothing."""
    text = ""
    metadata = b""

    def __init__(self, client: Client, number: int, deadline: int) -> None:
        self.client = client
        self.number = number
        self.deadline = deadline
        self.change = 0
        self.dead = 0
        """Reason once it has ended. Invariant: a dead lease gets nothing and extends nothing."""
        self.only: Hold | Waiter | None = None
        self.bucket: Bucket | None = None

    def due_key(self) -> Key:
        return (self.deadline, KIND_LEASE, self.client.tenant.number, self.client.number, self.number, "")

    def holds(self) -> list[Hold]:
        return [self.only] if isinstance(self.only, Hold) else []

    def waiters(self) -> list[Waiter]:
        return [self.only] if isinstance(self.only, Waiter) else []

    def size(self) -> int:
        """Holds and waiters together."""
        return 0 if self.only is None else 1

    def attach(self, item: Hold | Waiter) -> None:
        self.only = item

    def detach(self, item: Hold | Waiter) -> None:
        self.only = None

    def find_seq(self, seq: int) -> Hold | Waiter | None:
        """What the acquire ``seq`` got."""
        return self.only if self.only is not None and self.only.seq == seq else None


class Session(Lease):
    """One lease over any number of holds and waiters; this group's part of it."""

    __slots__ = ("doomed", "held", "lost", "metadata", "session", "text", "ttl", "waiting")

    def __init__(self, client: Client, number: int, session: bytes, ttl: int, deadline: int) -> None:
        super().__init__(client, number, deadline)
        self.session = session
        self.ttl = ttl
        self.doomed = 0
        self.text = ""
        self.metadata = b""
        self.held: dict[int, Hold] = {}
        """By token, in no order that means anything: rows of a snapshot come by slot."""
        self.waiting: dict[int, Waiter] = {}
        """By seq."""
        self.lost: list[tuple[int, str, int, int]] = []
        """(when, name, token, reason) of holds that it lost while it lived."""

    def holds(self) -> list[Hold]:
        return sorted(self.held.values(), key=lambda hold: hold.token)

    def waiters(self) -> list[Waiter]:
        # By seq: the order of arrival would not survive a snapshot.
        return sorted(self.waiting.values(), key=lambda waiter: waiter.seq)

    def size(self) -> int:
        return len(self.held) + len(self.waiting)

    def attach(self, item: Hold | Waiter) -> None:
        if isinstance(item, Hold):
            self.held[item.token] = item
        else:
            self.waiting[item.seq] = item

    def detach(self, item: Hold | Waiter) -> None:
        if isinstance(item, Hold):
            del self.held[item.token]
        else:
            del self.waiting[item.seq]

    def find_seq(self, seq: int) -> Hold | Waiter | None:
        waiter = self.waiting.get(seq)
        if waiter is not None or not seq:  # what was handed over is no ticket of anybody's
            return waiter
        return next((hold for hold in self.held.values() if hold.seq == seq), None)


class Lock:
    """A name that is held, awaited or closed; a free lock has no row."""

    __slots__ = ("_held", "bucket", "capacity", "closed_until", "name", "queue", "requests", "slot", "tenant", "used")

    def __init__(self, tenant: Tenant, slot: int, name: str) -> None:
        self.tenant = tenant
        self.slot = slot
        self.name = name
        self._held: Hold | list[Hold] | None = None
        """Mostly one: a list would be an eighth of what a held lock costs."""
        self.used = 0
        """Permits of all holders."""
        self.queue: OrderedDict[tuple[int, int], Waiter] | None = None
        """By (client, seq), head first; None when nobody waits."""
        self.capacity = 0
        """Of the semaphore, while the lock is one; what it was last when it is none any more."""
        self.closed_until = 0
        self.requests: dict[bytes, Hold | Waiter] | None = None
        """Holds and waiters that can be asked for again, by their request ids; None when there was none."""
        self.bucket: Bucket | None = None

    @property
    def is_held(self) -> bool:
        return self._held is not None

    @property
    def holders(self) -> list[Hold]:
        """Invariant: all of one mode, one alone when that is exclusive, in the order of their tokens. Changed by
        :meth:`add` and :meth:`remove` alone."""
        held = self._held
        if isinstance(held, list):
            return held
        return [] if held is None else [held]

    def hold_of(self, token: int) -> Hold | None:
        held = self._held
        if isinstance(held, list):
            at = bisect_left(held, token, key=_token_of)
            return held[at] if at < len(held) and held[at].token == token else None
        return held if held is not None and held.token == token else None

    def add(self, hold: Hold) -> None:
        """``hold`` has the highest token."""
        held = self._held
        if held is None:
            self._held = hold
        elif isinstance(held, list):
            held.append(hold)
        else:
            self._held = [held, hold]
        self.used += hold.permits

    def remove(self, hold: Hold) -> None:
        held = self._held
        if isinstance(held, list):
            del held[bisect_left(held, hold.token, key=_token_of)]
            if not held:
                self._held = None
        else:
            self._held = None
        self.used -= hold.permits

    def note_request(self, item: Hold | Waiter) -> None:
        if item.request:
            if self.requests is None:
                self.requests = {}
            self.requests[item.request] = item

    def forget_request(self, item: Hold | Waiter) -> None:
        # A hold that is being taken away may have been asked for again: then its id is a younger one's.
        if self.requests is not None and self.requests.get(item.request) is item:
            del self.requests[item.request]

    @property
    def is_semaphore(self) -> bool:
        """Whether anybody holds or awaits permits of it."""
        if self.is_held and self.holders[0].mode == PERMITS:
            return True
        return self.queue is not None and any(waiter.mode == PERMITS for waiter in self.queue.values())

    def due_key(self) -> Key:
        return (self.closed_until, KIND_CLOSING, self.tenant.number, 0, 0, self.name)


class Waiter:
    __slots__ = (
        "asked", "bucket", "capacity", "lease", "lock", "lock_delay", "metadata", "mode", "patient",
        "permits", "request", "seq", "steals", "until",
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
        self.request = b""
        self.patient = True
        """False for a try: it waits for cachers alone."""
        self.bucket: Bucket | None = None

    def due_key(self) -> Key:
        return (self.until, KIND_WAITER, self.lock.tenant.number, self.lease.client.number, self.seq, "")


class Taken:
    """That a hold is being taken away, why, and the last deadline its holder was told: then it is over."""

    __slots__ = ("reason", "text", "until")

    def __init__(self, reason: int, until: int, text: str) -> None:
        self.reason = reason
        self.until = until
        self.text = text


class Hold:
    __slots__ = (
        "asked", "bucket", "count", "lease", "lock", "lock_delay", "metadata", "mode", "permits", "request", "seq",
        "since", "taken", "token", "why",
    )  # fmt: skip

    def __init__(self, lock: Lock, lease: Lease, seq: int, token: int, mode: int, permits: int, since: int) -> None:
        self.lock = lock
        self.lease = lease
        self.seq = seq
        self.token = token
        self.mode = mode
        self.permits = permits
        self.since = self.asked = since
        self.count = 1
        """How often a session holds it (``reentrant``)."""
        self.metadata = b""
        self.lock_delay = 0
        self.request = b""
        """Given by whoever asked, so that the same request through another client finds this hold."""
        self.why = FREE
        self.taken: Taken | None = None
        self.bucket: Bucket | None = None
        """Timed only while it is being taken away."""

    def due_key(self) -> Key:
        until = self.taken.until if self.taken is not None else 0
        return (until, KIND_HOLD, self.lock.tenant.number, self.lease.client.number, self.token, "")
