"""All operations of a router's fronts, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from holdfast.clock import boottime_ms
from holdfast.core.client import ClientCore
from holdfast.core.hold import Hold
from holdfast.core.watch import Watch as CoreWatch
from holdfast.errors import HoldfastError, NotHeld
from holdfast.wire.administration import LOOKS, AdminRequest, AdminResult, BreakLock
from holdfast.wire.changes import CHANGE_ID_BYTES
from holdfast.wire.errors import Forbidden, NotFound
from holdfast.wire.frames import encode
from holdfast.wire.messages import GroupRole, SlotTable
from holdfast.wire.tenants import OPERATOR, KeyRole, Principal

from ..administration import Administration
from ..admission.verdict import Standing
from . import watching
from .callers import Caller
from .cancelling import uncancel
from .local_link import Exchange, Links
from .locks import LockOperations
from .opaque import Seals
from .problems import problem_of
from .requests import (
    Acquire,
    Batch,
    Break,
    Check,
    Checked,
    CreateSession,
    Done,
    EndSession,
    Get,
    Grant,
    KeepSession,
    ListLocks,
    ListSessions,
    LockList,
    LockState,
    Operation,
    Release,
    Renew,
    Renewed,
    SessionGrant,
    SessionKept,
    SessionList,
    Watch,
)
from .sessions import SessionOperations
from .turnstile import Gate, Turnstile

Result = Grant | Renewed | Done | LockState | Checked | SessionKept

Note = Callable[[Principal, str, str, str, str], Awaitable[Callable[[str], object]]]
"""(who, from where, action, target, reason) -> what to call with how it ended."""

A = TypeVar("A", bound=Struct)
R = TypeVar("R")


class Operations:
    """``authenticate`` raises ``Unauthenticated`` or ``Forbidden``; ``table`` is None until the cluster is known."""

    def __init__(
        self,
        exchange: Exchange,
        secret: str,
        gate: Gate,
        *,
        note: Note,
        administration: Administration,
        authenticate: Callable[[str, str], Principal],
        table: Callable[[], SlotTable | None],
        roles: Callable[[], list[GroupRole]],
        longest_ttl_ms: Callable[[int], int],
    ) -> None:
        self._authenticate = authenticate
        self._note = note
        self._administration = administration
        self._links = Links(exchange, table, roles)
        self._turnstile = Turnstile(gate)
        seals = Seals(secret)
        self._locks = LockOperations(self._core_of, seals)
        self._sessions = SessionOperations(self._core_of, seals, longest_ttl_ms)

    def caller(self, key: str, address: str = "", request: bytes = b"") -> Caller:
        """Who asks with this API key, now. Raises ``Unauthenticated``, ``Forbidden``."""
        return Caller(self._authenticate(key, address), boottime_ms(), address, request)

    def _core_of(self, tenant: int) -> ClientCore:
        if tenant == OPERATOR:
            raise Forbidden("the operator's keys take and show no locks of their own: use a tenant's key")
        return self._links.core(tenant)

    def standing(self, caller: Caller) -> Standing:
        """How much of its rate the caller's tenant has left."""
        return self._turnstile.standing(caller.tenant)

    async def _admitted(self, caller: Caller, asked: A, carry_out: Callable[[Caller, A], Awaitable[R]]) -> R:
        return await self._turnstile.admitted(caller.tenant, asked, lambda: carry_out(caller, asked))

    # Locks.

    async def acquire(self, caller: Caller, asked: Acquire) -> Grant:
        return await self._admitted(caller, asked, self._acquire)

    async def release(self, caller: Caller, asked: Release) -> Done:
        return await self._admitted(caller, asked, self._locks.release)

    async def renew(self, caller: Caller, asked: Renew) -> Renewed:
        return await self._admitted(caller, asked, self._locks.renew)

    async def get(self, caller: Caller, asked: Get) -> LockState:
        return await self._admitted(caller, asked, self._locks.get)

    async def check(self, caller: Caller, asked: Check) -> Checked:
        return await self._admitted(caller, asked, self._locks.check)

    async def list_locks(self, caller: Caller, asked: ListLocks) -> LockList:
        return await self._admitted(caller, asked, self._locks.list)

    async def break_lock(self, caller: Caller, asked: Break) -> Done:
        return await self._admitted(caller, asked, self._break)

    async def watch(self, caller: Caller, asked: Watch) -> watching.Shown:
        """Charged once, as a look."""
        watch = await self._admitted(caller, asked, self._begin_watch)
        return watching.Shown(watch, partial(self._turnstile.told, caller.tenant))

    async def _begin_watch(self, caller: Caller, asked: Watch) -> CoreWatch:
        return watching.begin(self._core_of(caller.tenant), caller, asked)

    # Sessions.

    async def create_session(self, caller: Caller, asked: CreateSession) -> SessionGrant:
        return await self._admitted(caller, asked, self._sessions.create)

    async def keep_session(self, caller: Caller, asked: KeepSession) -> SessionKept:
        return await self._admitted(caller, asked, self._sessions.keep)

    async def end_session(self, caller: Caller, asked: EndSession) -> Done:
        return await self._admitted(caller, asked, self._sessions.end)

    async def list_sessions(self, caller: Caller, asked: ListSessions) -> SessionList:
        return await self._admitted(caller, asked, self._sessions.list)

    # Administration.

    async def administer(self, caller: Caller, asked: AdminRequest) -> AdminResult:
        """What administrators may do; it says itself who may do what, and how often.

        A request sent again under one id is known again; another one under that id is another. A change that was begun
        is finished, and told to who still listens: he may have taken away his own key by it.
        """
        number = caller.request and blake2b(caller.request + encode(asked), digest_size=CHANGE_ID_BYTES).digest()
        executing = asyncio.ensure_future(self._administration.execute(caller.principal, asked, caller.address, number))
        try:
            return await asyncio.shield(executing)
        except asyncio.CancelledError:
            if isinstance(asked, LOOKS):
                executing.cancel()
                raise
            uncancel()
            return await executing

    async def _noted(
        self, caller: Caller, action: str, asked: Acquire | Break, carry_out: Callable[[], Awaitable[R]]
    ) -> R:
        """Carried out once the audit log says so; how it ended is said there, too."""
        ended = await self._note(caller.principal, caller.address, action, asked.name, asked.reason)
        outcome = "unknown"
        try:
            result = await carry_out()
            outcome = "done"
            return result
        except HoldfastError as error:
            outcome = problem_of(error).slug
            raise
        finally:
            ended(outcome)

    async def _acquire(self, caller: Caller, asked: Acquire, had: list[Hold] | None = None) -> Grant:
        if not asked.now:
            return await self._locks.acquire(caller, asked, had)
        caller.need(KeyRole.ADMIN, asked.name)
        return await self._noted(caller, "lock.steal", asked, lambda: self._locks.acquire(caller, asked, had))

    async def _break(self, caller: Caller, asked: Break) -> Done:
        caller.need(KeyRole.ADMIN, asked.name)
        if caller.request:
            return await self._break_once(caller, asked)
        return await self._noted(caller, "lock.break", asked, lambda: self._locks.break_(caller, asked))

    async def _break_once(self, caller: Caller, asked: Break) -> Done:
        """A copy must not take the lock from its next holder: what is done once is the administration's to know."""
        request = BreakLock(asked.name, token=asked.token, reason=asked.reason, now=asked.now)
        try:
            await self.administer(caller, request)
        except NotFound as error:
            raise NotHeld(str(error)) from None
        return Done()

    # Many.

    async def _carry_out(self, caller: Caller, asked: Operation, had: list[Hold]) -> Result:
        match asked:
            case Acquire():
                return await self._acquire(caller, asked, had)
            case Release():
                return await self._locks.release(caller, asked)
            case Renew():
                return await self._locks.renew(caller, asked)
            case Get():
                return await self._locks.get(caller, asked)
            case Check():
                return await self._locks.check(caller, asked)
            case Break():
                return await self._break(caller, asked)
            case KeepSession():
                return await self._sessions.keep(caller, asked)

    async def batch(self, caller: Caller, asked: Batch, requests: Sequence[bytes] = ()) -> list[Result | HoldfastError]:
        """Each for itself, side by side; in the order they were asked. Errors are answers here, but that of admission,
        which is asked for all of them together. ``requests``: an id for each (:attr:`Caller.request`); without them
        each has one that is made of the caller's."""
        callers = [caller.part(at) for at in range(len(asked.operations))]
        if requests:
            callers = [replace(caller, request=request) for request in requests]
        return await self._admitted(caller, asked, lambda _, batch: self._batch(callers, batch))

    async def _batch(self, callers: list[Caller], asked: Batch) -> list[Result | HoldfastError]:
        had: list[Hold] = []
        pairs = zip(callers, asked.operations, strict=True)
        try:
            ended = await asyncio.gather(
                *(self._carry_out(mine, one, had) for mine, one in pairs), return_exceptions=True
            )
        except asyncio.CancelledError:
            for hold in had:
                hold.give_back()
            raise
        results: list[Result | HoldfastError] = []
        for result in ended:
            if isinstance(result, BaseException) and not isinstance(result, HoldfastError):
                raise result
            results.append(result)
        return results

    def forget(self, tenants: Iterable[int]) -> None:
        """They were deleted."""
        self._links.forget(tenants)

    async def close(self) -> None:
        """Take back what callers still wait for."""
        await self._links.close()
        self._turnstile.close()
