"""What inspection shows. Ages and remaining times are seconds of the group's clock at the time of the look."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.wire.frames import HolderView, LockView, Mode, Reason, SessionView


@dataclass(frozen=True, slots=True)
class HolderInfo:
    token: int
    shared: bool
    permits: int
    """Of a semaphore; 1 otherwise."""
    session: str | None
    """Id of the session that it is held through."""
    metadata: bytes
    held_for: float
    remaining: float
    """Until its lease ends, unless it is renewed."""
    why: str
    """How it was had: ``free``, ``queued`` or ``stolen``."""
    leaving: Reason | None
    """Why it is being taken away, if it is."""
    count: int
    """How many times it is held, when reentrantly."""


@dataclass(frozen=True, slots=True)
class LockInfo:
    name: str
    capacity: int
    """Of the semaphore, while anybody holds or awaits permits of it; 0 otherwise."""
    waiters: int
    holders: tuple[HolderInfo, ...]
    """The first 256 of them."""
    closed_for: float
    """What is left of a lock delay."""
    holder_count: int

    @property
    def held(self) -> bool:
        return self.holder_count > 0


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session's part in one group."""

    id: str
    group: int
    ttl: float
    remaining: float
    held: int
    waiting: int
    metadata: bytes


def lock_info(view: LockView) -> LockInfo:
    holders = tuple(_holder(holder) for holder in view.holders)
    return LockInfo(view.name, view.capacity, view.waiters, holders, view.closed_ms / 1000, view.held)


def _holder(view: HolderView) -> HolderInfo:
    return HolderInfo(
        token=view.token,
        shared=view.mode == Mode.SHARED,
        permits=view.permits,
        session=view.session.hex() if view.session else None,
        metadata=view.metadata,
        held_for=view.held_ms / 1000,
        remaining=view.remaining_ms / 1000,
        why=view.why,
        leaving=Reason(view.leaving) if view.leaving else None,
        count=view.count,
    )


def session_info(group: int, view: SessionView) -> SessionInfo:
    return SessionInfo(
        view.session.hex(), group, view.ttl_ms / 1000, view.remaining_ms / 1000, view.held, view.waiting, view.metadata
    )
