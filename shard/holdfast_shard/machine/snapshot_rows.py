"""What a snapshot of the ledger is made of: the rows, as they are written (``export``) and read (``restore``)."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from holdfast.wire.frames import Allotment

from .rows import Answer

GLOBALS, CLIENTS, LOCKS, SESSIONS = 0, 1, 2, 3
"""Kinds of chunks."""

T = TypeVar("T")


class Row(msgspec.Struct, array_like=True, gc=False):
    pass


class TenantRow(Row):
    allotment: Allotment
    last_token: int
    last_client: int
    seen: int


class DyingRow(Row):
    """A lease when ``name`` is empty; else its hold or its waiter of that name, by token or by seq."""

    tenant: int
    client: int
    lease: int
    slot: int = 0
    name: str = ""
    token: int = 0
    seq: int = 0


class GlobalsRow(Row, Generic[T]):
    head: T
    clock: int
    tenants: list[TenantRow]
    dying: list[DyingRow]


class SessionRow(Row):
    tenant: int
    client: int
    number: int
    session: bytes
    ttl: int
    deadline: int
    change: int
    dead: int
    doomed: int
    text: str
    metadata: bytes
    lost: list[tuple[int, str, int, int]]


class ClientRow(Row):
    number: int
    tenant: int
    floor: int
    seen: int
    answers: list[tuple[int, Answer]]
    ended: list[tuple[int, int, int, str]]


class LeaseRow(Row):
    """Of the lock's tenant. ``plain`` is (deadline, change, dead) of a plain lease, which travels with what it has; a
    session has a row."""

    client: int
    number: int
    plain: tuple[int, int, int] | None


class HoldRow(Row):
    lease: LeaseRow
    seq: int
    token: int
    mode: int
    permits: int
    since: int
    asked: int
    count: int
    metadata: bytes
    lock_delay: int
    why: int
    taken: tuple[int, int, str] | None
    request: bytes = b""


class WaiterRow(Row):
    lease: LeaseRow
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


class LockRow(Row):
    tenant: int
    name: str
    capacity: int
    closed_until: int
    holders: list[HoldRow]
    queue: list[WaiterRow]
