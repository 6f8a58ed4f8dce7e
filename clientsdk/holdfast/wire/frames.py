"""Sections, frames, answers and events: the columns that an operation travels in (``docs/design.md``, 2 and 6.1).

A section is encoded once, by the SDK. Routers wrap it (:class:`Stamped`) and leaders write it to the log as received;
answers travel back as the bytes that apply produced.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from holdfast.wire.limits import METADATA_BYTES_MAX, TTL_MS_MAX, WAITERS_PER_LOCK_MAX

Struct = msgspec.Struct
DecodeError = msgspec.DecodeError


class Kind(enum.IntEnum):
    """Kinds of operations. Those from ``GET`` up are reads and are never written to the log."""

    REGISTER = 1
    OPEN = 2
    ACQUIRE = 3
    RELEASE = 4
    KEEPALIVE = 5
    CANCEL = 6
    FORCE = 7
    END = 8
    ALLOT = 9
    ANNOUNCE = 10
    RENEW = 11
    CHANGE = 12
    """Meta group: an administrator's change."""
    REPORT = 13
    """Meta group: what another group uses of its allotments, and what was refused there."""
    GET = 32
    CHECK = 33
    LIST = 34
    HOLDS = 35
    TICKETS = 36
    SESSIONS = 37
    AUDIT = 38
    """Meta group: a page of the audit log."""


FIRST_READ = int(Kind.GET)


class Status(enum.IntEnum):
    """Answer to one operation. From ``UNREGISTERED`` up it is a refusal that changed nothing."""

    OK = 0
    QUEUED = 1
    BUSY = 2
    CHANGED = 3
    NOT_HELD = 4
    LEASE_ENDED = 5
    CANCELLED = 6
    TIMED_OUT = 7
    UNREGISTERED = 16
    STALE = 17
    TOO_FAR = 18
    MOVED = 19
    ALREADY_HELD = 20
    CAPACITY_MISMATCH = 21
    TOO_MANY_WAITERS = 22
    TOO_MANY_HOLDERS = 23
    TOO_MANY_LOCKS = 24
    TOO_MANY_LEASES = 25
    QUOTA_HELD = 26
    QUOTA_WAITERS = 27
    QUOTA_SESSIONS = 28
    INVALID = 29
    AGAIN = 30
    """A read that the frame it came in had no room left for: ask again."""
    QUOTA_TTL = 31
    QUOTA_METADATA = 32


class Mode(enum.IntEnum):
    EXCLUSIVE = 0
    SHARED = 1
    PERMITS = 2
    CACHE = 3


class Reason(enum.IntEnum):
    """Why a hold, a ticket or a lease ended."""

    NONE = 0
    RELEASED = 1
    EXPIRED = 2
    STOLEN = 3
    FORCED = 4
    SESSION_ENDED = 5
    CANCELLED = 6
    TIMED_OUT = 7
    REFUSED = 8

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        """A reason that only a newer release knows is no error here."""
        return cls.NONE if isinstance(value, int) else None


class EventKind(enum.IntEnum):
    GRANTED = 1
    """A ticket became a hold: ``seq``, ``lease``, ``name``, ``token``, ``deadline_ms``, ``change``."""
    ENDED = 2
    """A ticket ended without a grant: ``seq``, ``reason``."""
    LOST = 3
    """A hold was or is being taken: ``lease``, ``name``, ``token``, ``reason``, ``change``."""
    RECALL = 4
    """Somebody queues for a cached name: let go of ``token``."""


GONE: Final = 2**53 - 1
"""Version of the last allotment of a tenant, which was deleted."""


class Allotment(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a tenant may use in one group; only a higher ``version`` counts. A tenant without one may hold nothing.

    ``held``, ``waiters`` and ``sessions`` are the group's share of a total. The rest are limits that every group is
    told alike; beyond the service's own they say nothing.
    """

    tenant: int
    version: int
    held: int
    waiters: int
    sessions: int
    waiters_per_lock: int = WAITERS_PER_LOCK_MAX
    ttl_ms: int = TTL_MS_MAX
    metadata_bytes: int = METADATA_BYTES_MAX


class Options(Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """What few operations need; kept out of the columns."""

    mode: int = 0
    permits: int = 1
    capacity: int = 1
    metadata: bytes = b""
    lock_delay_ms: int = 0
    reentrant: bool = False
    steal: bool = False
    now: bool = False
    reason: str = ""
    session: bytes = b""
    cursor: str = ""
    limit: int = 0
    allotment: Allotment | None = None
    change: bytes = b""
    """With CHANGE: an encoded :class:`holdfast.wire.changes.Change`; with REPORT, the encoded report; with
    AUDIT, an encoded :class:`holdfast.wire.changes.AuditFilter`, or nothing."""
    request: bytes = b""
    """With ACQUIRE: 16 bytes, the same for every copy of one request through whatever client; empty for none."""


class Section(Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """Operations of one client for one group. All columns have one length, at most ``OPERATIONS_PER_SECTION_MAX``."""

    client: int
    floor: int
    kinds: bytes
    seqs: list[int]
    names: list[str]
    leases: list[int]
    tokens: list[int]
    ttls: list[int]
    waits: list[int]
    options: dict[int, Options]


class Stamped(Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """A section as it leaves a router: whose it is, and the slot of each operation (two bytes each, little endian)."""

    tenant: int
    slots: bytes
    section: Section


class StampedRaw(Struct, array_like=True, gc=False):
    """:class:`Stamped` with the section's bytes as received."""

    tenant: int
    slots: bytes
    section: msgspec.Raw


class Answers(Struct, array_like=True, gc=False):
    """Answers to one section, position by position.

    ``tokens`` holds the token of a grant (0 otherwise); ``deadlines`` the lease's deadline in milliseconds after the
    reading of the entry that carried the operation (0 when there is none); ``details`` what few answers need.
    """

    statuses: bytes
    tokens: list[int]
    deadlines: list[int]
    details: dict[int, Any]


class Event(Struct, array_like=True, gc=False):
    """Something that happened to a client otherwise than in answer to its operation. May be lost.

    The tenant is there for whoever passes it on: nobody hears of another tenant's clients by claiming their numbers.
    """

    tenant: int
    client: int
    kind: int
    seq: int
    lease: int
    name: str
    token: int
    deadline_ms: int
    change: int
    reason: int
    text: str = ""


class HolderView(Struct, array_like=True, gc=False):
    """One hold as an inspector sees it. Ages and remaining times are milliseconds of the group clock."""

    token: int
    mode: int
    permits: int
    client: int
    lease: int
    session: bytes
    metadata: bytes
    held_ms: int
    remaining_ms: int
    why: str
    """How it was had: ``free``, ``queued``, ``stolen``, ``reentrant``."""
    leaving: int = 0
    """:class:`Reason` when it is being taken away, else 0."""
    count: int = 1


class LockView(Struct, array_like=True, gc=False):
    """Detail of GET; also of each row of LIST."""

    name: str
    capacity: int
    waiters: int
    holders: list[HolderView]
    closed_ms: int = 0
    """Remaining lock delay."""
    held: int = 0
    """Number of holders, of whom ``holders`` are the first ``HOLDERS_SHOWN_MAX``."""


class LockPage(Struct, array_like=True, gc=False):
    """Detail of LIST: the group's rows under the prefix, by name; ``cursor`` is empty on the last page."""

    locks: list[LockView]
    cursor: str


class HeldRow(Struct, array_like=True, gc=False):
    name: str
    token: int
    seq: int
    """The acquire that got it."""
    deadline_ms: int
    """Milliseconds after the reading of that acquire's entry."""
    leaving: int


class TicketRow(Struct, array_like=True, gc=False):
    """State of one acquire: waiting (``status`` QUEUED), granted (OK, token, deadline) or ended (its reason)."""

    seq: int
    status: int
    token: int
    deadline_ms: int
    reason: int
    name: str
    lease: int


class HoldsView(Struct, array_like=True, gc=False):
    """Detail of HOLDS: everything of one lease, with its change number. ``ended`` is a :class:`Reason` or 0."""

    change: int
    ended: int
    held: list[HeldRow]
    waiting: list[int]
    lost: list[tuple[str, int, int]]
    """(name, token, reason) of what the lease lost within the last 60 s."""
    text: str = ""


class SessionView(Struct, array_like=True, gc=False):
    session: bytes
    client: int
    lease: int
    ttl_ms: int
    remaining_ms: int
    held: int
    waiting: int
    metadata: bytes


class SessionPage(Struct, array_like=True, gc=False):
    sessions: list[SessionView]
    cursor: str


encoder = msgspec.msgpack.Encoder()
encode = encoder.encode

DROPPED = encode(None)
"""In the place of answers to a section that was not carried out: nobody waited for them any more when its turn came."""

T = TypeVar("T")


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A decoder that raises :class:`DecodeError` (of which ``ValidationError`` is one) on any bytes that do not fit.

    msgspec lets two more errors through: text that is no UTF-8, and what is skipped unread but nested deeper than the
    stack. Sections forbid unknown fields, so that nothing of theirs is skipped: whether a nesting fits the stack may
    differ from replica to replica.
    """
    decode: Callable[[bytes], T] = msgspec.msgpack.Decoder(kind).decode

    def checked(data: bytes) -> T:
        try:
            return decode(data)
        except (UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(str(error)) from None

    return checked


decode_section = decoder(Section)
decode_frame = decoder(list[Stamped])
decode_answers = decoder(Answers)
decode_answer_list = decoder(list[Answers])
decode_raw_list = decoder(list[msgspec.Raw])
decode_events = decoder(list[Event])
