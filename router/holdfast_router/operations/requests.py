"""What the fronts take and give: the types that decode requests, and from which their documentation is made.

Times are whole milliseconds. Texts have their limits in bytes of UTF-8, which is checked where they are used.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError

from holdfast.wire.limits import (
    LIST_PAGE_MAX,
    LOCK_DELAY_MS_MAX,
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    PERMITS_MAX,
    REASON_BYTES_MAX,
    TOKEN_MAX,
    TTL_MS_MAX,
    TTL_MS_MIN,
)

LONG_POLL_MS_MAX = 300_000
"""Longest wait of one request: what waits longer asks again."""
BATCH_OPERATIONS_MAX = 256
TTL_MS = 30_000

_NAME_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]+$"
Name = Annotated[
    str, Meta(min_length=1, max_length=NAME_BYTES_MAX, pattern=_NAME_PATTERN,
              description="UTF-8, 1 to 512 bytes, no control characters.", examples=["orders/7"]),
]  # fmt: skip
Prefix = Annotated[str, Meta(max_length=NAME_BYTES_MAX, description="Names that begin with it.", examples=["orders/"])]
Ttl = Annotated[int, Meta(ge=TTL_MS_MIN, le=TTL_MS_MAX, description="Life of the lease unless it is renewed, ms.")]
Wait = Annotated[
    int, Meta(ge=0, le=LONG_POLL_MS_MAX, description="How long to queue for it, ms; 0 tries once. The answer comes when"
              " the lock is had, or when this is over."),
]  # fmt: skip
Token = Annotated[int, Meta(ge=1, le=TOKEN_MAX, description="The fencing token of the grant.")]
LockIdText = Annotated[str, Meta(max_length=1024, description="The grant as opaque text, as it came with it.")]
SessionText = Annotated[str, Meta(max_length=128, description="The session, as it was named when it was created.")]
Metadata = Annotated[
    str, Meta(max_length=METADATA_BYTES_MAX, description="At most 1 KiB, shown to whoever inspects.",
              examples=["host-1"]),
]  # fmt: skip
Why = Annotated[str, Meta(max_length=REASON_BYTES_MAX, description="Told to whoever loses something by it.")]
Permits = Annotated[int, Meta(ge=1, le=PERMITS_MAX)]
Limit = Annotated[int, Meta(ge=1, le=LIST_PAGE_MAX, description="Most rows of one page.")]
Cursor = Annotated[str, Meta(max_length=2048, description="`cursor` of the page before; empty for the first page.")]


def complaint(error: ValidationError) -> str:
    """What is wrong with a request, in words: a pattern tells people nothing."""
    return str(error).replace(f"matching regex {_NAME_PATTERN!r}", "without control characters")


class Asked(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A request; what it does not know is refused."""


class Told(Struct, frozen=True, kw_only=True):
    """A result; later releases may add fields."""


# Locks.


class AcquireOptions(Asked, frozen=True, kw_only=True):
    """How to acquire a lock."""

    ttl_ms: Ttl = TTL_MS
    wait_ms: Wait = 0
    mode: Literal["exclusive", "shared", "permits"] = "exclusive"
    permits: Annotated[Permits, Meta(description="With mode permits: how many of the semaphore's.")] = 1
    capacity: Annotated[Permits, Meta(description="With mode permits: how many the semaphore has.")] = 1
    metadata: Metadata = ""
    lock_delay_ms: Annotated[
        int, Meta(ge=0, le=LOCK_DELAY_MS_MAX, description="Closes the name for so long after this lease ran out.")
    ] = 0
    session: Annotated[SessionText, Meta(description="Hold it under this session's lease.")] = ""
    steal: Annotated[bool, Meta(description="Take it from whoever holds it, ahead of all who wait.")] = False
    now: Annotated[
        bool, Meta(description="With steal: do not wait until the holder has stopped believing. Needs role admin.")
    ] = False
    reason: Why = ""


class Acquire(AcquireOptions, frozen=True, kw_only=True):
    """Take a lock, waiting for it if need be."""

    name: Name


class Release(Asked, frozen=True, kw_only=True):
    """Let go of a grant: by ``lock_id``, or by ``name`` and ``token``."""

    name: Annotated[str, Meta(max_length=NAME_BYTES_MAX)] = ""
    token: Annotated[int, Meta(ge=0, le=TOKEN_MAX)] = 0
    lock_id: LockIdText = ""


class Renew(Asked, frozen=True, kw_only=True):
    """Extend the lease of a grant: by ``lock_id``, or by ``name`` and ``token``."""

    name: Annotated[str, Meta(max_length=NAME_BYTES_MAX)] = ""
    token: Annotated[int, Meta(ge=0, le=TOKEN_MAX)] = 0
    lock_id: LockIdText = ""
    ttl_ms: Ttl = TTL_MS


class Get(Asked, frozen=True, kw_only=True):
    """Who holds a name, and how many wait."""

    name: Name


class Check(Asked, frozen=True, kw_only=True):
    """Whether a grant still holds: by ``lock_id``, or by ``name`` and ``token``."""

    name: Annotated[str, Meta(max_length=NAME_BYTES_MAX)] = ""
    token: Annotated[int, Meta(ge=0, le=TOKEN_MAX)] = 0
    lock_id: LockIdText = ""


class Break(Asked, frozen=True, kw_only=True):
    """Take a lock from its holders, or from that of ``token`` alone. Needs role admin."""

    name: Name
    token: Annotated[int, Meta(ge=0, le=TOKEN_MAX)] = 0
    reason: Why = ""
    now: Annotated[bool, Meta(description="Do not wait until the holder has stopped believing.")] = False


class ListLocks(Asked, frozen=True, kw_only=True):
    """Names that are held, awaited or closed."""

    prefix: Prefix = ""
    limit: Limit = 100
    cursor: Cursor = ""


class Watch(Asked, frozen=True, kw_only=True):
    """A name, or every name under a prefix: one of them."""

    name: Annotated[str, Meta(max_length=NAME_BYTES_MAX)] | None = None
    prefix: Prefix | None = None


class Grant(Told, frozen=True, kw_only=True):
    """A lock that is held. It is the caller's to renew before ``expires_in_ms`` is over, and to release."""

    name: str
    token: Annotated[int, Meta(description="Greater than that of every earlier grant of the name, below 2^53.")]
    lock_id: str
    expires_in_ms: Annotated[int, Meta(ge=0, description="Counted from when the request was sent.")]
    session: str = ""


class Renewed(Told, frozen=True, kw_only=True):
    expires_in_ms: Annotated[int, Meta(ge=0, description="Counted from when the request was sent.")]


class Done(Told, frozen=True, kw_only=True):
    """It was carried out."""

    ok: bool = True


class Checked(Told, frozen=True, kw_only=True):
    held: bool


class Holder(Told, frozen=True, kw_only=True):
    token: int
    mode: Literal["exclusive", "shared", "permits"]
    permits: int
    session_id: Annotated[str, Meta(description="`id` of the session that holds it; empty otherwise.")]
    metadata: str
    metadata_base64: Annotated[str, Meta(description="Instead of metadata when it is no text.")]
    held_ms: int
    remaining_ms: Annotated[int, Meta(description="Until its lease ends unless it is renewed.")]
    why: Annotated[str, Meta(description="How it was had: free, queued or stolen.")]
    leaving: Annotated[str, Meta(description="Why it is being taken away; empty when it is not.")]
    count: int


class LockState(Told, frozen=True, kw_only=True):
    """A name as it is now. ``holders`` are the first 256 of ``holder_count``."""

    name: str
    held: bool
    holder_count: int
    waiters: int
    capacity: Annotated[int, Meta(description="Of the semaphore while it is one, else 0.")]
    closed_ms: Annotated[int, Meta(description="What is left of a lock delay.")]
    holders: list[Holder]


class LockList(Told, frozen=True, kw_only=True):
    locks: list[LockState]
    cursor: Annotated[str, Meta(description="For the next page; empty on the last.")]


# Sessions.


class CreateSession(Asked, frozen=True, kw_only=True):
    """A session: one lease over many locks, kept alive by one keepalive."""

    ttl_ms: Ttl = TTL_MS
    metadata: Metadata = ""


class KeepSessionOptions(Asked, frozen=True, kw_only=True):
    """What is known of a session already."""

    seen: Annotated[
        str,
        Meta(max_length=16_384, description="`seen` of the answer before: locks that are the same are left out."),
    ] = ""


class KeepSession(KeepSessionOptions, frozen=True, kw_only=True):
    """Extend a session by its TTL, with all that is held through it."""

    session: SessionText


class EndSession(Asked, frozen=True, kw_only=True):
    """End a session, and let go of all that is held through it."""

    session: SessionText


class ListSessions(Asked, frozen=True, kw_only=True):
    """Every session's part in every shard group."""

    limit: Limit = 100
    cursor: Cursor = ""


class SessionGrant(Told, frozen=True, kw_only=True):
    session: Annotated[str, Meta(description="By which it is kept alive, used and ended.")]
    id: Annotated[str, Meta(description="By which inspection and the SDK name it.")]
    ttl_ms: int
    expires_in_ms: Annotated[int, Meta(ge=0, description="Counted from when the request was sent.")]


class HeldLock(Told, frozen=True, kw_only=True):
    name: str
    token: int


class SessionKept(SessionGrant, frozen=True, kw_only=True):
    """A session that goes on. A lock that was held through it and is not among ``locks`` is lost, or being taken away:
    it is not to be believed in any more."""

    seen: Annotated[str, Meta(description="Opaque: stands for what is held; pass it to the next keepalive.")]
    locks: Annotated[
        list[HeldLock], Meta(description="All that is held through it; left out when nothing changed since `seen`.")
    ] | UnsetType = UNSET  # fmt: skip


class SessionState(Told, frozen=True, kw_only=True):
    """A session's part in one shard group."""

    id: Annotated[str, Meta(description="By which administrators end it.")]
    group: int
    ttl_ms: int
    remaining_ms: int
    held: int
    waiting: int
    metadata: str
    metadata_base64: str


class SessionList(Told, frozen=True, kw_only=True):
    sessions: list[SessionState]
    cursor: Annotated[str, Meta(description="For the next page; empty on the last.")]


# Batches.


class AcquireOne(Acquire, frozen=True, kw_only=True, tag="acquire", tag_field="op"):
    pass


class ReleaseOne(Release, frozen=True, kw_only=True, tag="release", tag_field="op"):
    pass


class RenewOne(Renew, frozen=True, kw_only=True, tag="renew", tag_field="op"):
    pass


class GetOne(Get, frozen=True, kw_only=True, tag="get", tag_field="op"):
    pass


class CheckOne(Check, frozen=True, kw_only=True, tag="check", tag_field="op"):
    pass


class BreakOne(Break, frozen=True, kw_only=True, tag="break", tag_field="op"):
    pass


class KeepOne(KeepSession, frozen=True, kw_only=True, tag="keep_session", tag_field="op"):
    pass


Operation = AcquireOne | ReleaseOne | RenewOne | GetOne | CheckOne | BreakOne | KeepOne


class Batch(Asked, frozen=True, kw_only=True):
    """Operations that are carried out side by side, each for itself; they are answered in the order they stand in."""

    operations: Annotated[list[Operation], Meta(min_length=1, max_length=BATCH_OPERATIONS_MAX)]
