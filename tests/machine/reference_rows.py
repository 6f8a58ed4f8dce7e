"""Rows of the naive reference: what the contract speaks of, and nothing to find it by (``docs/design.md``, 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.wire.limits import METADATA_BYTES_MAX, TTL_MS_MAX, WAITERS_PER_LOCK_MAX

Name = tuple[int, str]
"""(tenant, name): what a lock is known by."""


@dataclass(slots=True, eq=False)
class Client:
    number: int
    tenant: int
    seen: int
    floor: int = 1
    answers: dict[int, tuple[int, int, int, object]] = field(default_factory=dict)
    ended: list[tuple[int, int, int, str]] = field(default_factory=list)
    """(when, lease or ticket, reason, text)."""

    @property
    def known_as(self) -> tuple[int, int]:
        return (self.tenant, self.number)


@dataclass(slots=True, eq=False)
class Lease:
    client: Client
    number: int
    deadline: int
    session: bytes = b""
    ttl: int = 0
    metadata: bytes = b""
    change: int = 0
    dead: int = 0
    doomed: int = 0
    text: str = ""
    lost: list[tuple[int, str, int, int]] = field(default_factory=list)
    """(when, name, token, reason)."""


@dataclass(slots=True, eq=False)
class Hold:
    name: Name
    lease: Lease
    seq: int
    token: int
    mode: int
    permits: int
    capacity: int
    since: int
    asked: int
    metadata: bytes
    lock_delay: int
    why: str
    request: bytes = b""
    count: int = 1
    taken: tuple[int, int] | None = None
    """(reason, until)."""
    taken_text: str = ""


@dataclass(slots=True, eq=False)
class Waiter:
    name: Name
    lease: Lease
    seq: int
    asked: int
    until: int
    mode: int
    permits: int
    capacity: int
    metadata: bytes
    lock_delay: int
    steals: bool
    patient: bool
    request: bytes = b""


@dataclass(slots=True)
class Allotted:
    version: int = 0
    held: int = 0
    waiters: int = 0
    sessions: int = 0
    waiters_per_lock: int = WAITERS_PER_LOCK_MAX
    ttl_ms: int = TTL_MS_MAX
    metadata_bytes: int = METADATA_BYTES_MAX
