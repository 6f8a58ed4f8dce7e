"""What an acquire that was not granted raises."""

from __future__ import annotations

from typing import Any

from holdfast.errors import (
    AlreadyHeld,
    CapacityMismatch,
    HoldfastError,
    InvalidArgument,
    LockTimeout,
    OutcomeUnknown,
    QuotaExceeded,
    Rejected,
    SessionLost,
)
from holdfast.wire.frames import Status

from .lease import reason_of

_LIMITS = {
    Status.TOO_MANY_WAITERS: "waiters per lock",
    Status.TOO_MANY_HOLDERS: "holders per lock",
    Status.TOO_MANY_LOCKS: "locks per session",
    Status.TOO_MANY_LEASES: "leases per client",
    Status.QUOTA_HELD: "held locks",
    Status.QUOTA_WAITERS: "waiters",
    Status.QUOTA_SESSIONS: "sessions",
    Status.QUOTA_TTL: "ms of TTL",
    Status.QUOTA_METADATA: "bytes of metadata",
}


def refusal(status: int, detail: Any, name: str, wait_s: float | None) -> HoldfastError:
    """The error for an answer that is neither a grant nor a ticket."""
    if status in _LIMITS:
        return QuotaExceeded(_LIMITS[Status(status)], detail if isinstance(detail, int) else 0)
    match status:
        case Status.BUSY | Status.TIMED_OUT:
            return LockTimeout(name, wait_s)
        case Status.ALREADY_HELD:
            return AlreadyHeld(f"the session holds or awaits {name!r} already; pass reentrant=True to hold it again")
        case Status.CAPACITY_MISMATCH:
            capacity, asked = detail
            return CapacityMismatch(name, capacity, asked)
        case Status.LEASE_ENDED:
            reason, text = reason_of(detail)
            return SessionLost(reason, (), text)
        case Status.INVALID:
            return InvalidArgument(str(detail))
        case Status.STALE:
            return OutcomeUnknown("the operation was answered before, and the answer is not kept any more")
        case _:
            return Rejected(f"refused with status {status}")
