"""Operations on sessions: one lease in every group, addressed by the session's id, so that any router serves it.

A session is opened in all groups at once: a group in which it is over means that the session is lost, never that it
had not come there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.arguments import metadata_of
from holdfast.core.batch import NOBODY
from holdfast.core.client import ClientCore
from holdfast.core.group import GroupClient
from holdfast.core.lease import reason_of
from holdfast.core.refusals import refusal
from holdfast.errors import HoldfastError, InvalidArgument, OutcomeUnknown, SessionLost
from holdfast.wire.frames import Kind, Options, SessionPage, SessionView, Status
from holdfast.wire.limits import SESSION_ID_BYTES
from holdfast.wire.tenants import KeyRole

from .callers import Caller
from .leases import Answer, ask
from .opaque import CURSOR, SESSION, Cursor, Seals, SessionKey
from .paging import gather_page
from .requests import CreateSession, Done, EndSession, KeepSession, ListSessions, SessionGrant, SessionList
from .views import session_state


class SessionOperations:
    def __init__(self, core_of: Callable[[int], ClientCore], seals: Seals) -> None:
        self._core_of = core_of
        self._seals = seals

    async def create(self, caller: Caller, asked: CreateSession) -> SessionGrant:
        """Raises ``QuotaExceeded``; ``Unavailable`` when not every group answered: then there is no session."""
        caller.need(KeyRole.LOCKS)
        core = self._core_of(caller.tenant)
        number = caller.request or core.rng.randbytes(SESSION_ID_BYTES)
        options = Options(session=number, metadata=metadata_of(asked.metadata))
        try:
            answers = await _everywhere(core, Kind.OPEN, options, asked.ttl_ms)
            if caller.request and any(answer.status == Status.INVALID for answer in answers):
                # A copy of this request opened it before.
                answers = await _everywhere(core, Kind.KEEPALIVE, Options(session=number), asked.ttl_ms)
            for answer in answers:
                if answer.status != Status.OK:
                    raise refusal(answer.status, answer.detail, "", None)
        except BaseException:
            if not caller.request:
                self._take_back(core, number)
            raise
        until_ms = min(answer.until_ms for answer in answers)
        text = self._seals.seal(caller.tenant, SESSION, SessionKey(number, asked.ttl_ms))
        return SessionGrant(
            session=text, id=number.hex(), ttl_ms=asked.ttl_ms, expires_in_ms=caller.expires_in_ms(until_ms)
        )

    def _take_back(self, core: ClientCore, number: bytes) -> None:
        """Parts that were opened of a session that nobody will hear of; what cannot be reached runs out by itself."""
        for group in core.all_groups():
            group.writes.call(NOBODY, int(Kind.END), options=Options(session=number, now=True))

    async def keep(self, caller: Caller, asked: KeepSession) -> SessionGrant:
        """Raises ``SessionLost`` when its part in any group is over."""
        caller.need(KeyRole.LOCKS)
        session = self._opened(caller, asked.session)
        core = self._core_of(caller.tenant)
        answers = await _everywhere(core, Kind.KEEPALIVE, Options(session=session.session), session.ttl_ms)
        for answer in answers:
            if answer.status not in (Status.OK, Status.CHANGED):
                raise _why_over(answer)
        until_ms = min(answer.until_ms for answer in answers)
        expires_in_ms = caller.expires_in_ms(until_ms)
        return SessionGrant(
            session=asked.session, id=session.session.hex(), ttl_ms=session.ttl_ms, expires_in_ms=expires_in_ms
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
        shown = [session_state(view, group, self._text(tenant, view)) for group, view in views]
        return SessionList(sessions=shown, cursor=cursor)

    def _text(self, tenant: int, view: SessionView) -> str:
        return self._seals.seal(tenant, SESSION, SessionKey(view.session, view.ttl_ms))

    def _opened(self, caller: Caller, text: str) -> SessionKey:
        return self._seals.open(caller.tenant, SESSION, text, SessionKey)


async def _everywhere(core: ClientCore, kind: Kind, options: Options, ttl_ms: int) -> list[Answer]:
    """The answers of all groups. Raises the first error, once all have ended; of an END that some group carried out,
    :class:`OutcomeUnknown`."""
    asked = [_ask(core, kind, options, group, ttl_ms) for group in core.all_groups()]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    for error in ended:
        if isinstance(error, HoldfastError) and kind == Kind.END and any(map(_is_ok, ended)):
            raise OutcomeUnknown(f"it was ended in some groups, and may go on in others: {error}; ask again")
        if isinstance(error, BaseException):
            raise error
    return [answer for answer in ended if isinstance(answer, Answer)]


def _is_ok(answer: Answer | BaseException) -> bool:
    return isinstance(answer, Answer) and answer.status == Status.OK


async def _ask(core: ClientCore, kind: Kind, options: Options, group: GroupClient, ttl_ms: int) -> Answer:
    return await ask(core, kind, "", 0, options, group=group, ttl_ms=ttl_ms)


def _why_over(answer: Answer) -> HoldfastError:
    if answer.status == Status.LEASE_ENDED:
        reason, text = reason_of(answer.detail)
        return SessionLost(reason, (), text)
    return refusal(answer.status, answer.detail, "", None)
