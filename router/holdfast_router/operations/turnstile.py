"""Admission of what comes by the router's other fronts: asked for when it comes, and refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from holdfast.wire import exempt
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


class _Passage:
    """One operation, or those of a batch, that count as under way."""

    __slots__ = ("began", "operations", "tenant")

    def __init__(self, tenant: int, operations: int, began: float) -> None:
        self.tenant = tenant
        self.operations = operations
        self.began = began


class Turnstile:
    """The sections that come of it are not charged again."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._under_way: dict[_Passage, None] = {}
        """Oldest first. One timer looks after all of them: most have ended long before it is due."""
        self._timer: asyncio.TimerHandle | None = None

    async def admitted(self, tenant: int, asked: Struct, carry_out: Callable[[], Awaitable[T]]) -> T:
        """What ``carry_out`` comes to. Raises ``Throttled`` when a rate is used up."""
        operations, all_exempt = charge_of(asked)
        denied = await self._gate.admit(tenant, operations, exempt=all_exempt)
        if denied is not None:
            raise denied.error()
        loop = asyncio.get_running_loop()
        passage = _Passage(tenant, operations, loop.time())
        self._under_way[passage] = None
        if self._timer is None:
            self._timer = loop.call_later(UNDER_WAY_S, self._look, loop)
        try:
            return await carry_out()
        finally:
            if passage in self._under_way:
                self._end(passage, loop.time())

    def _end(self, passage: _Passage, now: float) -> None:
        del self._under_way[passage]
        self._gate.ended(passage.tenant, passage.operations, now - passage.began)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what has been under way for as long as counts."""
        self._timer = None
        now = loop.time()
        while self._under_way:
            first = next(iter(self._under_way))
            left_s = first.began + UNDER_WAY_S - now
            if left_s > 0:
                self._timer = loop.call_later(left_s, self._look, loop)
                return
            self._end(first, now)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def told(self, tenant: int) -> None:
        """A watcher was shown how a lock looks."""
        self._gate.told(tenant, 1)

    def standing(self, tenant: int) -> Standing:
        return self._gate.standing(tenant)


def is_exempt(asked: Any) -> bool:
    """Whether all requests of this type are what holders need; of a batch it is not known before it was read."""
    return _KINDS.get(asked, Kind.GET) in exempt.EXEMPT


def charge_of(asked: Struct) -> tuple[int, bool]:
    """How many operations a request is charged as, and whether all of them are exempt."""
    if not isinstance(asked, Batch):
        return _charge_of_one(type(asked))
    charges = [_charge_of_one(type(one)) for one in asked.operations]
    return len(charges), all(one for _, one in charges)


@cache
def _charge_of_one(asked: type[Struct]) -> tuple[int, bool]:
    kind = next(_KINDS[base] for base in asked.__mro__ if base in _KINDS)
    # Sessions are said by what only their callers have.
    return 1, exempt.is_exempt(kind, None, vouched=True)
