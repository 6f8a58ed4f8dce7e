"""Operations on locks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from holdfast.arguments import metadata_of, prefix_of, reason_of
from holdfast.core.client import ClientCore
from holdfast.core.hold import Hold
from holdfast.core.refusals import refusal
from holdfast.errors import HoldfastError, InvalidArgument, LockLost, NotHeld
from holdfast.wire.frames import Kind, LockPage, LockView, Options, Reason, Status
from holdfast.wire.lockid import LockID, parse_lock_id
from holdfast.wire.names import check_name
from holdfast.wire.tenants import KeyRole

from .callers import Caller
from .leases import Answer, ask
from .opaque import CURSOR, SESSION, Cursor, Seals, SessionKey
from .paging import gather_page
from .requests import (
    Acquire,
    Break,
    Check,
    Checked,
    Done,
    Get,
    Grant,
    ListLocks,
    LockList,
    LockState,
    Release,
    Renew,
    Renewed,
)
from .views import MODES, lock_state


class LockOperations:
    def __init__(self, core_of: Callable[[int], ClientCore], seals: Seals) -> None:
        self._core_of = core_of
        self._seals = seals

    async def acquire(self, caller: Caller, asked: Acquire, had: list[Hold] | None = None) -> Grant:
        """Wait until the lock is held, at most ``wait_ms``; cancelling this takes back what was asked. ``had`` gets the
        hold, to be given back should its caller not be there to be told.

        Raises ``LockTimeout``, ``AlreadyHeld``, ``CapacityMismatch``, ``QuotaExceeded``, ``SessionLost``, ``LockLost``
        (granted and taken away again before it could be told), ``Unavailable``.
        """
        caller.need(KeyRole.ADMIN if asked.now else KeyRole.LOCKS, asked.name)
        check_name(asked.name)
        session = self._seals.open(caller.tenant, SESSION, asked.session, SessionKey) if asked.session else None
        ttl_ms = session.ttl_ms if session is not None else asked.ttl_ms
        options = _options(asked, caller.request, session.session if session is not None else b"")
        core = self._core_of(caller.tenant)
        hold = Hold(core, asked.name, ttl_ms, asked.wait_ms, options, None, True)
        token, until_ms = await _had(hold)
        if session is not None:
            until_ms = await self._hand_over(core, hold, session.session)
        if had is not None:
            had.append(hold)
        lock_id = LockID(caller.tenant, asked.name, token).text(self._seals.key(caller.tenant))
        expires_in_ms = caller.expires_in_ms(until_ms)
        return Grant(name=asked.name, token=token, lock_id=lock_id, expires_in_ms=expires_in_ms, session=asked.session)

    async def _hand_over(self, core: ClientCore, hold: Hold, session: bytes) -> float:
        """Until when the session that now has it may be believed."""
        answer: Answer | None = None
        try:
            answer = await ask(core, Kind.RENEW, hold.name, hold.token, Options(session=session))
            if answer.status != Status.OK:
                raise _why_not(answer, hold.name, hold.token)
        except BaseException:
            # Of an answer that is still to come only the session's owner could know.
            hold.give_back()
            raise
        return answer.until_ms

    async def release(self, caller: Caller, asked: Release) -> Done:
        """Raises ``NotHeld`` when the grant holds nothing any more."""
        name, token = self._named(caller, asked)
        answer = await ask(self._core_of(caller.tenant), Kind.RELEASE, name, token)
        if answer.status != Status.OK:
            raise _why_not(answer, name, token)
        return Done()

    async def renew(self, caller: Caller, asked: Renew) -> Renewed:
        """Extend a plain lease. Raises ``NotHeld``; ``LockLost`` when it is being taken away and extended no more;
        ``InvalidArgument`` when a session holds it."""
        name, token = self._named(caller, asked)
        answer = await ask(self._core_of(caller.tenant), Kind.RENEW, name, token, ttl_ms=asked.ttl_ms)
        if answer.status != Status.OK:
            raise _why_not(answer, name, token)
        return Renewed(expires_in_ms=caller.expires_in_ms(answer.until_ms))

    async def get(self, caller: Caller, asked: Get) -> LockState:
        caller.need(KeyRole.READ, asked.name)
        check_name(asked.name)
        answer = await ask(self._core_of(caller.tenant), Kind.GET, asked.name)
        if answer.status != Status.OK:
            raise _why_not(answer, asked.name, 0)
        return lock_state(msgspec.convert(answer.detail, LockView))

    async def check(self, caller: Caller, asked: Check) -> Checked:
        name, token = self._named(caller, asked, KeyRole.READ)
        answer = await ask(self._core_of(caller.tenant), Kind.CHECK, name, token)
        if answer.status not in (Status.OK, Status.NOT_HELD):
            raise _why_not(answer, name, token)
        return Checked(held=answer.status == Status.OK)

    async def list(self, caller: Caller, asked: ListLocks) -> LockList:
        """One page; each is as of its own moment: what changes in between may be missed or shown twice."""
        caller.need(KeyRole.READ, prefix_of(asked.prefix))
        tenant = caller.tenant
        start = Cursor("locks", asked.prefix, 0, "")
        if asked.cursor:
            start = self._seals.open(tenant, CURSOR, asked.cursor, Cursor)
        if (start.what, start.prefix) != ("locks", asked.prefix):
            raise InvalidArgument("this cursor belongs to a list of another prefix")
        views, following = await gather_page(
            self._core_of(tenant), Kind.LIST, start, asked.limit, LockPage, lambda page: page.locks
        )
        cursor = self._seals.seal(tenant, CURSOR, following) if following is not None else ""
        return LockList(locks=[lock_state(view) for _, view in views], cursor=cursor)

    async def break_(self, caller: Caller, asked: Break) -> Done:
        """Raises ``NotHeld`` when nobody holds it."""
        caller.need(KeyRole.ADMIN, asked.name)
        check_name(asked.name)
        options = Options(reason=reason_of(asked.reason), now=asked.now)
        answer = await ask(self._core_of(caller.tenant), Kind.FORCE, asked.name, asked.token, options)
        if answer.status != Status.OK:
            raise _why_not(answer, asked.name, asked.token)
        return Done()

    def _named(self, caller: Caller, asked: Release | Renew | Check, role: KeyRole = KeyRole.LOCKS) -> tuple[str, int]:
        """Name and token of the grant that is meant."""
        name, token = asked.name, asked.token
        if asked.lock_id:
            if name or token:
                raise InvalidArgument("a grant is named by lock_id, or by name and token, not by both")
            found = parse_lock_id(asked.lock_id, caller.tenant, self._seals.key(caller.tenant))
            name, token = found.name, found.token
        elif not token:
            raise InvalidArgument("a grant is named by lock_id, or by name and token: there is no token")
        check_name(name)
        caller.need(role, name)
        return name, token


async def _had(hold: Hold) -> tuple[int, float]:
    """The token, and until when it may be believed; from then on the hold is its caller's."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    hold.core.check_open()
    # Nobody listens: a hold that is lost while its caller is being told of it is noticed by its end of belief.
    hold.acquire(waiter, None)
    try:
        await waiter
    except asyncio.CancelledError:
        hold.give_up()
        raise
    until_ms = hold.until_ms
    if until_ms <= hold.core.clock():
        hold.give_up()
        raise LockLost(hold.name, hold.token, hold.reason or Reason.EXPIRED, hold.text)
    hold.leave_to_its_caller()
    return hold.token, until_ms


def _options(asked: Acquire, request: bytes, session: bytes) -> Options:
    if asked.mode == "permits":
        if asked.permits > asked.capacity:
            raise InvalidArgument(f"permits is at most capacity, {asked.capacity}, not {asked.permits}")
    elif asked.permits != 1 or asked.capacity != 1:
        raise InvalidArgument(f"permits and capacity go with mode permits, not with {asked.mode}")
    if asked.now and not asked.steal:
        raise InvalidArgument("now goes with steal")
    if asked.steal and asked.mode != "exclusive":
        raise InvalidArgument("what is stolen is held exclusively")
    return Options(
        mode=MODES[asked.mode],
        permits=asked.permits,
        capacity=asked.capacity,
        metadata=metadata_of(asked.metadata),
        lock_delay_ms=asked.lock_delay_ms,
        steal=asked.steal,
        now=asked.now,
        reason=reason_of(asked.reason),
        session=session,
        request=request,
    )


def _why_not(answer: Answer, name: str, token: int) -> HoldfastError:
    if answer.status == Status.NOT_HELD:
        return NotHeld(f"lock {name!r} is not held{f' under token {token}' if token else ''}")
    if answer.status == Status.CHANGED:
        reason, text = answer.detail
        return LockLost(name, token, Reason(reason), text)
    return refusal(answer.status, answer.detail, name, None)
