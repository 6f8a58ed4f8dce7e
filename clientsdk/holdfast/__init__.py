"""Holdfast: locks as a cloud service.

async with holdfast.connect() as client:
    async with client.lock("deploy", ttl=30) as lock:
        ...  # lock.token is the fencing token

``holdfast.sync`` is the same for threads.
"""

from __future__ import annotations

from holdfast.client import Client, connect
from holdfast.errors import (
    AlreadyHeld,
    CapacityMismatch,
    ClientClosed,
    HoldfastError,
    InvalidArgument,
    InvalidLockID,
    InvalidName,
    LockLost,
    LockTimeout,
    NotHeld,
    OutcomeUnknown,
    Overloaded,
    QuotaExceeded,
    Rejected,
    SessionLost,
    Unauthenticated,
    Unavailable,
)
from holdfast.info import HolderInfo, LockInfo, SessionInfo
from holdfast.lock import Lock
from holdfast.semaphore import Semaphore
from holdfast.session import Session, SessionLoss
from holdfast.signals import Signal
from holdfast.wire.frames import Reason

__all__ = [
    "connect",
    "Client",
    "Lock",
    "Semaphore",
    "Session",
    "SessionLoss",
    "LockInfo",
    "HolderInfo",
    "SessionInfo",
    "Reason",
    "Signal",
    "HoldfastError",
    "Rejected",
    "OutcomeUnknown",
    "Unavailable",
    "Overloaded",
    "Unauthenticated",
    "LockLost",
    "LockTimeout",
    "NotHeld",
    "AlreadyHeld",
    "SessionLost",
    "QuotaExceeded",
    "CapacityMismatch",
    "ClientClosed",
    "InvalidArgument",
    "InvalidName",
    "InvalidLockID",
]
