"""Idempotency-Key: a request that comes again gets its first answer, or joins the first while that is under way.

Per router and key of the API; through another router an acquire finds its own grant by the id that is made of the key.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from holdfast.errors import HoldfastError
from holdfast.wire.errors import InvalidArgument, Overloaded
from holdfast.wire.limits import BUSY_RETRY_MS, REQUEST_ID_BYTES
from holdfast.wire.tenants import Principal

from ..directory import Gone
from ..operations import Caller
from ..operations.cancelling import uncancel
from ..operations.problems import IdempotencyConflict, problem_of

KEPT_MS: Final = 600_000.0
KEPT_MAX: Final = 100_000
"""Of all tenants; who has none kept may still have one beyond."""
KEPT_PER_TENANT_MAX: Final = 10_000
"""The oldest makes room: no tenant's answers are forgotten for those of another."""
UNDER_WAY_PER_TENANT_MAX: Final = 4_096
"""They go on when their callers have hung up, and so are counted apart from requests."""
KEY_CHARS_MAX: Final = 255


class _Entry:
    __slots__ = ("arrived_ms", "ended", "fingerprint", "key", "task", "tenant")

    def __init__(self, caller: Caller, fingerprint: bytes, task: asyncio.Task[Struct]) -> None:
        self.tenant = caller.tenant
        self.key = caller.principal.key
        self.arrived_ms = caller.arrived_ms
        self.fingerprint = fingerprint
        self.task = task
        self.ended: HoldfastError | None = None
        """Why it was told to end before it had an answer."""


class _OfTenant:
    """Invariant: an entry is under way, or stands in ``answered``, oldest answer first."""

    __slots__ = ("answered", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.answered: OrderedDict[bytes, None] = OrderedDict()


class FirstAnswers:
    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        """In the order in which they came."""
        self._tenants: dict[int, _OfTenant] = {}

    async def once(
        self, caller: Caller, operation: str, asked: Struct, carry_out: Callable[[], Awaitable[Struct]]
    ) -> tuple[Struct, float]:
        """The answer to ``caller.request``, and how many milliseconds before this copy the first one came; 0 for the
        first. What was refused for the moment only is not kept. Raises :class:`IdempotencyConflict` for a key that
        another request had, :class:`Overloaded` when the tenant has too many under way, and what ended the API key
        meanwhile."""
        self._forget_old(caller.arrived_ms)
        fingerprint = blake2b(operation.encode() + b"\0" + msgspec.msgpack.encode(asked), digest_size=16).digest()
        entry = self._entries.get(caller.request)
        if entry is None:
            entry = self._begin(caller, fingerprint, carry_out)
        elif entry.fingerprint != fingerprint:
            raise IdempotencyConflict("this Idempotency-Key was used for another request: take a new one for this")
        # Whoever began it may have gone: whoever comes again still gets the answer.
        age_ms = caller.arrived_ms - entry.arrived_ms
        try:
            return await asyncio.shield(entry.task), age_ms
        except asyncio.CancelledError:
            if entry.ended is None:
                raise
            uncancel()
        await asyncio.wait((entry.task,))
        if entry.task.cancelled():
            raise entry.ended
        return entry.task.result(), age_ms

    def _begin(self, caller: Caller, fingerprint: bytes, carry_out: Callable[[], Awaitable[Struct]]) -> _Entry:
        mine = self._tenants.setdefault(caller.tenant, _OfTenant())
        if mine.under_way >= UNDER_WAY_PER_TENANT_MAX:
            text = f"{UNDER_WAY_PER_TENANT_MAX} requests with an Idempotency-Key are under way for this tenant"
            raise Overloaded(text, BUSY_RETRY_MS)
        if mine.answered and (len(mine.answered) >= KEPT_PER_TENANT_MAX or len(self._entries) >= KEPT_MAX):
            self._forget(next(iter(mine.answered)))
            mine = self._tenants.setdefault(caller.tenant, mine)
        mine.under_way += 1
        task = asyncio.ensure_future(_awaited(carry_out))
        entry = self._entries[caller.request] = _Entry(caller, fingerprint, task)
        task.add_done_callback(partial(self._ended, caller.request, mine))
        return entry

    def key_gone(self, gone: Gone) -> None:
        """End what is under way under these API keys; whoever waits for its answer is told why."""
        for entry in self._entries.values():
            if entry.key in gone and not entry.task.done():
                entry.ended = gone[entry.key]
                entry.task.cancel()

    def _ended(self, request: bytes, mine: _OfTenant, task: asyncio.Task[Struct]) -> None:
        mine.under_way -= 1
        mine.answered[request] = None
        error = None if task.cancelled() else task.exception()
        passing = isinstance(error, HoldfastError) and problem_of(error).http in (429, 503, 504)
        if task.cancelled() or passing or (error is not None and not isinstance(error, HoldfastError)):
            self._forget(request)

    def _forget(self, request: bytes) -> None:
        """One that is answered."""
        tenant = self._entries.pop(request).tenant
        mine = self._tenants[tenant]
        del mine.answered[request]
        if not mine.answered and not mine.under_way:
            del self._tenants[tenant]

    def _forget_old(self, now_ms: float) -> None:
        while self._entries:
            request, first = next(iter(self._entries.items()))
            if now_ms - first.arrived_ms < KEPT_MS or request not in self._tenants[first.tenant].answered:
                return
            self._forget(request)

    def close(self) -> None:
        for entry in self._entries.values():
            entry.task.cancel()


async def _awaited(carry_out: Callable[[], Awaitable[Struct]]) -> Struct:
    return await carry_out()


def request_id(principal: Principal, key: str) -> bytes:
    """The same on every router. Raises :class:`InvalidArgument`."""
    if not 0 < len(key) <= KEY_CHARS_MAX or not all("!" <= char <= "~" for char in key):
        raise InvalidArgument(f"an Idempotency-Key is 1 to {KEY_CHARS_MAX} ASCII characters without blanks")
    text = f"{principal.tenant}\0{principal.key}\0{key}"
    return blake2b(text.encode(), digest_size=REQUEST_ID_BYTES).digest()
