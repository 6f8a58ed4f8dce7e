"""Operations on sessions: one lease in every group, addressed by the session's id, so that any router serves it.

A session is opened in all groups at once: a group in which it is over means that the session is lost, never that it
had not come there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from holdfast.arguments import metadata_of
from holdfast.core.batch import NOBODY
from holdfast.core.client import ClientCore
from holdfast.core.group import GroupClient
from holdfast.core.lease import reason_of
from holdfast.core.refusals import refusal
from holdfast.errors import HoldfastError, InvalidArgument, OutcomeUnknown, SessionLost, Unavailable
from holdfast.wire.frames import HoldsView, Kind, Options, Reason, SessionPage, Status
from holdfast.wire.limits import SESSION_ID_BYTES, TOKEN_MAX
from holdfast.wire.tenants import KeyRole

from .callers import Caller
from .leases import Answer, ask
from .opaque import CURSOR, SESSION, Cursor, Seals, SessionKey
from .paging import gather_page
from .requests import (
    CreateSession,
    Done,
    EndSession,
    HeldLock,
    KeepSession,
    ListSessions,
    SessionGrant,
    SessionKept,
    SessionList,
)
from .views import session_state

T = TypeVar("T")

OPENING_MS: Final = 5_000
"""Within which every group has to have its part of a session that copies of a request may open: longer than an
election takes, and short, for what a refused one leaves in other groups counts until then."""

_DIGITS_MAX: Final = len(str(TOKEN_MAX))


class SessionOperations:
    def __init__(
        self, core_of: Callable[[int], ClientCore], seals: Seals, longest_ttl_ms: Callable[[int], int]
    ) -> None:
        """``longest_ttl_ms``: by tenant, as far as this router has heard."""
        self._core_of = core_of
        self._seals = seals
        self._longest_ttl_ms = longest_ttl_ms

    async def create(self, caller: Caller, asked: CreateSession) -> SessionGrant:
        """Raises ``QuotaExceeded``; ``Unavailable`` when not every group answered: then there is no session."""
        caller.need(KeyRole.LOCKS)
        core = self._core_of(caller.tenant)
        number = caller.request or core.rng.randbytes(SESSION_ID_BYTES)
        options = Options(session=number, metadata=metadata_of(asked.metadata))
        if caller.request:
            until_ms = await _open_once(core, options, asked.ttl_ms, self._longest_ttl_ms(caller.tenant))
        else:
            until_ms = await self._open(core, options, asked.ttl_ms)
        text = self._seals.seal(caller.tenant, SESSION, SessionKey(number, asked.ttl_ms))
        return SessionGrant(
            session=text, id=number.hex(), ttl_ms=asked.ttl_ms, expires_in_ms=caller.expires_in_ms(until_ms)
        )

    async def _open(self, core: ClientCore, options: Options, ttl_ms: int) -> float:
        """Until when it may be believed."""
        try:
            answers = await _everywhere(core, Kind.OPEN, options, ttl_ms)
            _check_opened(answers, Status.OK)
        except BaseException:
            self._take_back(core, options.session)
            raise
        return min(answer.until_ms for answer in answers)

    def _take_back(self, core: ClientCore, number: bytes) -> None:
        """Parts that were opened of a session that nobody will hear of; what cannot be reached runs out by itself."""
        for group in core.all_groups():
            group.writes.call(NOBODY, int(Kind.END), options=Options(session=number, now=True))

    async def keep(self, caller: Caller, asked: KeepSession) -> SessionKept:
        """Raises ``SessionLost`` when its part in any group is over."""
        caller.need(KeyRole.LOCKS)
        known = _changes_of(asked.seen)
        key = self._opened(caller, asked.session)
        core = self._core_of(caller.tenant)
        parts = await _all_of(_keep(core, group, key, known.get(group.number, 0)) for group in core.all_groups())
        locks: list[HeldLock] | UnsetType = UNSET
        if not asked.seen or any(part.changed for part in parts):
            views = dict(await _all_of(_holds(core, group, key) for group in core.all_groups()))
            known = {number: view.change for number, view in views.items()}
            held = [row for view in views.values() for row in view.held if not row.leaving]
            prefix = caller.principal.prefix
            locks = [HeldLock(name=row.name, token=row.token) for row in held if row.name.startswith(prefix)]
        return SessionKept(
            session=asked.session,
            id=key.session.hex(),
            ttl_ms=key.ttl_ms,
            # Of what was told before the locks were looked at: what was lost since ends no sooner than that.
            expires_in_ms=caller.expires_in_ms(min(part.until_ms for part in parts)),
            seen=_seen(known),
            locks=locks,
        )

    async def end(self, caller: Caller, asked: EndSession) -> Done:
        """Raises ``SessionLost`` when it was over in every group."""
        caller.need(KeyRole.LOCKS)
        session = self._opened(caller, asked.session)
        options = Options(session=session.session, now=True)
        answers = await _everywhere(self._core_of(caller.tenant), Kind.END, options, 0)
        if all(answer.status != Status.OK for answer in answers):
            raise _why_over(answers[0])
        return Done()

    async def list(self, caller: Caller, asked: ListSessions) -> SessionList:
        caller.need(KeyRole.READ)
        caller.need_all_names()
        tenant = caller.tenant
        start = Cursor("sessions", "", 0, "")
        if asked.cursor:
            start = self._seals.open(tenant, CURSOR, asked.cursor, Cursor)
        if start.what != "sessions":
            raise InvalidArgument("this cursor belongs to another list")
        views, following = await gather_page(
            self._core_of(tenant), Kind.SESSIONS, start, asked.limit, SessionPage, lambda page: page.sessions
        )
        cursor = self._seals.seal(tenant, CURSOR, following) if following is not None else ""
        # Never the text that stands for one: whoever has that uses and ends the session as its own.
        return SessionList(sessions=[session_state(view, group) for group, view in views], cursor=cursor)

    def _opened(self, caller: Caller, text: str) -> SessionKey:
        return self._seals.open(caller.tenant, SESSION, text, SessionKey)


async def _open_once(core: ClientCore, options: Options, ttl_ms: int, longest_ms: int) -> float:
    """Until when the session may be believed that all copies of a request open together, through whatever router.

    Nothing is taken back: another copy may have told its caller, who holds locks by now. Instead parts are kept for
    their TTL only when all groups have one; what is opened of a session that some group refuses soon runs out.
    """
    if ttl_ms > longest_ms:  # to open for a moment is within any quota, and keepalives are shortened silently
        raise refusal(Status.QUOTA_TTL, longest_ms, "", None)
    opened = await _everywhere(core, Kind.OPEN, options, min(ttl_ms, OPENING_MS))
    _check_opened(opened, Status.OK, Status.INVALID)
    kept = await _everywhere(core, Kind.KEEPALIVE, Options(session=options.session), ttl_ms)
    for answer in kept:
        if answer.status not in (Status.OK, Status.CHANGED):
            if any(map(_is_ok, opened)):
                raise Unavailable("a part of the session was over before all groups had one: ask again")
            raise _why_over(answer)
    return min(answer.until_ms for answer in kept)


def _check_opened(answers: list[Answer], *fine: Status) -> None:
    for answer in answers:
        if answer.status not in fine:
            raise refusal(answer.status, answer.detail, "", None)


class _Kept(Struct, frozen=True):
    until_ms: float
    changed: bool
    """Whether it holds something else than was known."""


async def _keep(core: ClientCore, group: GroupClient, key: SessionKey, change: int) -> _Kept:
    options = Options(session=key.session)
    answer = await ask(core, Kind.KEEPALIVE, "", change, options, group=group, ttl_ms=key.ttl_ms)
    if answer.status not in (Status.OK, Status.CHANGED):
        raise _why_over(answer)
    return _Kept(answer.until_ms, answer.status == Status.CHANGED)


async def _holds(core: ClientCore, group: GroupClient, key: SessionKey) -> tuple[int, HoldsView]:
    answer = await ask(core, Kind.HOLDS, options=Options(session=key.session), group=group)
    if answer.status != Status.OK:
        raise refusal(answer.status, answer.detail, "", None)
    view = msgspec.convert(answer.detail, HoldsView)
    if view.ended:
        raise SessionLost(Reason(view.ended), (), view.text)
    return group.number, view


def _seen(changes: dict[int, int]) -> str:
    return ",".join(f"{group}:{change}" for group, change in sorted(changes.items()))


def _changes_of(seen: str) -> dict[int, int]:
    """Change number by group."""
    pairs = [part.partition(":") for part in seen.split(",")] if seen else []
    for number in (number for group, _, change in pairs for number in (group, change)):
        if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS_MAX):
            raise InvalidArgument("seen is passed exactly as it came")
    return {int(group): min(int(change), TOKEN_MAX) for group, _, change in pairs}


async def _everywhere(core: ClientCore, kind: Kind, options: Options, ttl_ms: int) -> list[Answer]:
    """The answers of all groups. Raises the first error, once all have ended; of an END that some group carried out,
    :class:`OutcomeUnknown`."""
    groups = core.all_groups()
    ended = await asyncio.gather(
        *(ask(core, kind, options=options, group=group, ttl_ms=ttl_ms) for group in groups), return_exceptions=True
    )
    for error in ended:
        if isinstance(error, HoldfastError) and kind == Kind.END and any(map(_is_ok, ended)):
            raise OutcomeUnknown(f"it was ended in some groups, and may go on in others: {error}; ask again")
    return _unless_failed(ended)


async def _all_of(asked: Iterable[Awaitable[T]]) -> list[T]:
    """Their results. Raises the first error, once all have ended."""
    return _unless_failed(await asyncio.gather(*asked, return_exceptions=True))


def _unless_failed(ended: list[T | BaseException]) -> list[T]:
    found: list[T] = []
    for result in ended:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


def _is_ok(answer: Answer | BaseException) -> bool:
    return isinstance(answer, Answer) and answer.status == Status.OK


def _why_over(answer: Answer) -> HoldfastError:
    if answer.status == Status.LEASE_ENDED:
        reason, text = reason_of(answer.detail)
        return SessionLost(reason, (), text)
    return refusal(answer.status, answer.detail, "", None)
