"""What an inspector sees of locks and sessions. Ages and remaining times are seconds of the group's clock."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.wire.frames import HolderView, LockView, Mode, Reason, SessionView


@dataclass(frozen=True, slots=True)
class HolderInfo:
    token: int
    mode: str
    """``exclusive``, ``shared`` or ``permits``."""
    permits: int
    session: str
    """The session's id as hex, empty for a plain lock."""
    metadata: bytes
    held_for: float
    remaining: float
    """Until the lease ends if it is not renewed."""
    why: str
    """How it was had: ``free``, ``queued`` or ``stolen``."""
    leaving: Reason
    """Why it is being taken away, ``Reason.NONE`` when it is not."""


@dataclass(frozen=True, slots=True)
class LockInfo:
    name: str
    holders: tuple[HolderInfo, ...]
    waiters: int
    capacity: int
    """Of a semaphore in use, else 0."""
    closed_for: float
    """What is left of a lock delay."""

    @property
    def held(self) -> bool:
        return bool(self.holders)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One part of a session: what it has in one shard group."""

    id: str
    ttl: float
    remaining: float
    held: int
    waiting: int
    metadata: bytes


def lock_info(view: LockView) -> LockInfo:
    holders = tuple(_holder(holder) for holder in view.holders)
    return LockInfo(view.name, holders, view.waiters, view.capacity, view.closed_ms / 1000)


def _holder(view: HolderView) -> HolderInfo:
    return HolderInfo(
        view.token,
        Mode(view.mode).name.lower(),
        view.permits,
        view.session.hex(),
        view.metadata,
        view.held_ms / 1000,
        view.remaining_ms / 1000,
        view.why,
        Reason(view.leaving),
    )


def session_info(view: SessionView) -> SessionInfo:
    return SessionInfo(
        view.session.hex(), view.ttl_ms / 1000, view.remaining_ms / 1000, view.held, view.waiting, view.metadata
    )
