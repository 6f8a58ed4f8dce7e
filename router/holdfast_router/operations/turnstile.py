"""Admission of what comes by the router's other fronts: asked for when it comes, and refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from holdfast.wire.exempt import EXEMPT, all_exempt
from holdfast.wire.frames import Kind

from ..admission.verdict import Denied, Standing
from .requests import (
    Acquire,
    Batch,
    Break,
    Check,
    CreateSession,
    EndSession,
    Get,
    KeepSession,
    ListLocks,
    ListSessions,
    Release,
    Renew,
    Watch,
)

T = TypeVar("T")

UNDER_WAY_S: Final = 1.0
"""Longest that an operation counts as under way: what takes longer waits for a lock, and waiters have a quota."""

_KINDS: Final[dict[type[Struct], Kind]] = {
    Acquire: Kind.ACQUIRE,
    Release: Kind.RELEASE,
    Renew: Kind.RENEW,
    Get: Kind.GET,
    Check: Kind.CHECK,
    Break: Kind.FORCE,
    ListLocks: Kind.LIST,
    CreateSession: Kind.OPEN,
    KeepSession: Kind.KEEPALIVE,
    EndSession: Kind.END,
    ListSessions: Kind.SESSIONS,
    Watch: Kind.GET,
}


class Gate(Protocol):
    async def admit(self, tenant: int, operations: int, *, exempt: bool = False) -> Denied | None: ...
    def ended(self, tenant: int, operations: int, took_s: float) -> None: ...
    def told(self, tenant: int, watchers: int) -> None: ...
    def standing(self, tenant: int) -> Standing: ...


class Turnstile:
    """The sections that come of it are not charged again."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def admitted(self, tenant: int, asked: Struct, carry_out: Callable[[], Awaitable[T]]) -> T:
        """What ``carry_out`` comes to. Raises ``Throttled`` when a rate is used up."""
        kinds = kinds_of(asked)
        denied = await self._gate.admit(tenant, len(kinds), exempt=all_exempt(kinds, {}, vouched=True))
        if denied is not None:
            raise denied.error()
        loop = asyncio.get_running_loop()
        began, counts = loop.time(), True

        def over() -> None:
            nonlocal counts
            if counts:
                counts = False
                self._gate.ended(tenant, len(kinds), loop.time() - began)

        timer = loop.call_later(UNDER_WAY_S, over)
        try:
            return await carry_out()
        finally:
            timer.cancel()
            over()

    def told(self, tenant: int) -> None:
        """A watcher was shown how a lock looks."""
        self._gate.told(tenant, 1)

    def standing(self, tenant: int) -> Standing:
        return self._gate.standing(tenant)


def is_exempt(asked: Any) -> bool:
    """Whether all requests of this type are what holders need; of a batch it is not known before it was read."""
    return _KINDS.get(asked, Kind.GET) in EXEMPT


def kinds_of(asked: Struct) -> bytes:
    """What a request is charged as: one operation, or those of a batch."""
    if isinstance(asked, Batch):
        return b"".join(kinds_of(one) for one in asked.operations)
    found = next(_KINDS[kind] for kind in type(asked).__mro__ if kind in _KINDS)
    return bytes([found])
