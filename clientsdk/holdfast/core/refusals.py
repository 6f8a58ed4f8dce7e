"""What an acquire that was not granted raises."""

from __future__ import annotations

from random import Random
from typing import Any, Final

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
    Status.TOO_MANY_WAITERS: "waiters_per_lock",
    Status.TOO_MANY_HOLDERS: "holders_per_lock",
    Status.TOO_MANY_LOCKS: "locks_per_session",
    Status.TOO_MANY_LEASES: "leases_per_client",
    Status.QUOTA_HELD: "held",
    Status.QUOTA_WAITERS: "waiters",
    Status.QUOTA_SESSIONS: "sessions",
    Status.QUOTA_TTL: "ttl_ms",
    Status.QUOTA_METADATA: "metadata_bytes",
}
"""A tenant's quotas by the names under which they are set (``holdfast.wire.tenants.Quotas``), and the service's own."""


SHARE_PAUSES_MS: Final[tuple[float, ...]] = (30.0, 100.0, 300.0)
"""A group that has no more of a tenant's total asks the others for what lies unused there, as soon as it refuses: the
same is asked of it again after these pauses. A share moves within three entries of the log each way."""
SHARED_OUT: Final = frozenset({Status.QUOTA_HELD, Status.QUOTA_WAITERS, Status.QUOTA_SESSIONS})


def share_pause_ms(status: int, asked: int, rng: Random) -> float | None:
    """How long to wait before asking again for what was refused ``asked`` times before; None when it stays refused."""
    if status not in SHARED_OUT or asked >= len(SHARE_PAUSES_MS):
        return None
    return SHARE_PAUSES_MS[asked] * rng.uniform(1.0, 1.25)


def refusal(status: int, detail: Any, name: str, wait_s: float | None) -> HoldfastError:
    """The error for an answer that is neither a grant nor a ticket."""
    if status in _LIMITS:
        return QuotaExceeded(_LIMITS[Status(status)], detail if isinstance(detail, int) else 0, status in SHARED_OUT)
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
