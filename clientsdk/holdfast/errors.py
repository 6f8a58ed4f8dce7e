"""Errors of the SDK. Those of the wire are here too, so that ``holdfast.errors`` is the one place to look."""

from __future__ import annotations

from holdfast.wire.errors import (
    BadMessage,
    Conflict,
    Forbidden,
    HoldfastError,
    InvalidArgument,
    InvalidLockID,
    InvalidName,
    Moved,
    NoSuchGroup,
    NotFound,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Rejected,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    VersionMismatch,
    WrongCluster,
)
from holdfast.wire.frames import Reason

__all__ = [
    "AlreadyHeld",
    "BadMessage",
    "CapacityMismatch",
    "ClientClosed",
    "Conflict",
    "Forbidden",
    "HoldfastError",
    "InvalidArgument",
    "InvalidLockID",
    "InvalidName",
    "LockLost",
    "LockTimeout",
    "Moved",
    "NoSuchGroup",
    "NotFound",
    "NotHeld",
    "NotLeader",
    "OutcomeUnknown",
    "Overloaded",
    "QuotaExceeded",
    "Rejected",
    "SessionLost",
    "Throttled",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "VersionMismatch",
    "WrongCluster",
]


class LockLost(HoldfastError):
    """The lock was held and is held no longer. ``reason`` says why, as far as it is known here.

    ``Reason.EXPIRED`` also when the service could not be reached in time to renew.
    """

    def __init__(self, name: str, token: int, reason: Reason, text: str = "") -> None:
        super().__init__(f"lock {name!r} (token {token}) was lost: {reason.name.lower()}{': ' + text if text else ''}")
        self.name = name
        self.token = token
        self.reason = reason
        self.text = text


class SessionLost(HoldfastError):
    """A session, or its part in one shard group, has ended. ``names`` were held through it."""

    def __init__(self, reason: Reason, names: tuple[str, ...] = (), text: str = "") -> None:
        super().__init__(f"the session was lost: {reason.name.lower()}{': ' + text if text else ''}")
        self.reason = reason
        self.names = names
        self.text = text


class LockTimeout(Rejected, TimeoutError):
    """The lock was not had within ``wait``. Nothing is held and nothing waits any more."""

    def __init__(self, name: str, wait_s: float | None) -> None:
        super().__init__(f"lock {name!r} was not had{'' if wait_s is None else f' within {wait_s:g} s'}")
        self.name = name
        self.wait_s = wait_s


class NotHeld(Rejected):
    """This lock object holds nothing, or the token is not the holder's."""


class AlreadyHeld(Rejected):
    """The session holds or awaits this name already; pass ``reentrant=True`` to hold it several times."""


class CapacityMismatch(Rejected):
    """The semaphore in use has another capacity than the one asked for."""

    def __init__(self, name: str, capacity: int, asked: int) -> None:
        super().__init__(f"semaphore {name!r} is in use with capacity {capacity}, not {asked}")
        self.name = name
        self.capacity = capacity
        self.asked = asked


class QuotaExceeded(Rejected):
    """A limit was reached; ``which`` names it and ``limit`` is its value: of a total (``shared_out``), what of it the
    shard group that was asked has now."""

    def __init__(self, which: str, limit: int, shared_out: bool = False) -> None:
        share = f"the quota {which!r} is used up: this shard group's share of it is {limit}, and none is left elsewhere"
        super().__init__(share if shared_out else f"{which} may be at most {limit}")
        self.which = which
        self.limit = limit


class ClientClosed(Rejected):
    """The client was closed, or belongs to the parent of this forked process."""
