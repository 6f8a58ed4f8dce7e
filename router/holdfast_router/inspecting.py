"""Locks and sessions of any tenant, for administrators: looked at, and broken or ended with a note before and after.

What is sent again under one request id is done once. It is done under clients of its own, whose numbers the first note
keeps: a repetition goes under the same, so that a group answers it as it did the first, also when that comes late, or
when whoever sent the first died between note and deed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.wire.administration import (
    BreakLock,
    Done,
    EndSession,
    HolderDetail,
    ListLocks,
    ListSessions,
    LockDetail,
    LockList,
    SessionDetail,
    SessionList,
    ShowLock,
)
from holdfast.wire.changes import Note
from holdfast.wire.errors import (
    HoldfastError,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)
from holdfast.wire.frames import (
    HolderView,
    Kind,
    LockPage,
    LockView,
    Mode,
    Options,
    Reason,
    SessionPage,
    SessionView,
    Status,
)
from holdfast.wire.limits import LIST_PAGE_MAX, REASON_BYTES_MAX, SESSION_ID_BYTES
from holdfast.wire.names import check_name
from holdfast.wire.tenants import Principal, Tenant

from .asking import NO_SLOT, Asker, detail_of
from .beforehand import Beforehand
from .changing import Changes

ASK_S: Final = 5.0

T = TypeVar("T")


class Inspection:
    """``groups``: those that hold locks, ascending. ``place``: (group, slot) of a tenant's lock name."""

    def __init__(
        self,
        asker: Asker,
        changes: Changes,
        beforehand: Beforehand,
        groups: Callable[[], list[int]],
        place: Callable[[int, str], tuple[int, int]],
    ) -> None:
        self._asker = asker
        self._changes = changes
        self._beforehand = beforehand
        self._groups = groups
        self._place = place

    async def locks(self, tenant: Tenant, request: ListLocks) -> LockList:
        group, inner = self._at(request.cursor)
        options = Options(cursor=inner, limit=_page(request.limit))
        answers = await self._asker.ask(
            group, tenant.number, Kind.LIST, wait_s=ASK_S, name=request.prefix, options=options
        )
        page = detail_of(answers, LockPage)
        return LockList([_lock(view) for view in page.locks], self._next(group, page.cursor))

    async def lock(self, tenant: Tenant, request: ShowLock) -> LockDetail:
        check_name(request.name)
        group, slot = self._place(tenant.number, request.name)
        answers = await self._asker.ask(group, tenant.number, Kind.GET, wait_s=ASK_S, slot=slot, name=request.name)
        return _lock(detail_of(answers, LockView))

    async def sessions(self, tenant: Tenant, request: ListSessions) -> SessionList:
        group, inner = self._at(request.cursor)
        options = Options(cursor=inner, limit=_page(request.limit))
        answers = await self._asker.ask(group, tenant.number, Kind.SESSIONS, wait_s=ASK_S, options=options)
        page = detail_of(answers, SessionPage)
        return SessionList([_session(group, view) for view in page.sessions], self._next(group, page.cursor))

    async def break_lock(
        self, principal: Principal, address: str, tenant: Tenant, request: BreakLock, number: bytes
    ) -> Done:
        """Raises :class:`NotFound` when nobody held it (under that token). ``number`` is the request's id, or empty."""
        check_name(request.name)
        _check_reason(request.reason)
        detail = {
            "token": str(request.token) if request.token else "", "reason": request.reason,
            "now": "yes" if request.now else "",
        }  # fmt: skip
        group, slot = self._place(tenant.number, request.name)
        mine = {group: await self._register(group, tenant.number)}
        before = await self._beforehand.lock(tenant.number, request.name)
        note = Note(tenant.number, "lock.break", request.name, detail, before=before, under=mine)
        under, ended = await self._changes.note_once(principal, address, note, number)
        try:
            options = Options(reason=request.reason, now=request.now)
            client = under.get(group, mine[group])
            status = await self._do(
                group, tenant.number, client, Kind.FORCE, options, slot, request.name, request.token
            )
            if status == Status.NOT_HELD:
                raise NotFound(f"lock {request.name!r} is not held{' under that token' if request.token else ''}")
        except HoldfastError as error:
            ended(str(error))
            raise
        ended("done")
        return Done(request.name)

    async def end_session(
        self, principal: Principal, address: str, tenant: Tenant, request: EndSession, number: bytes
    ) -> Done:
        """In every group that can be reached. Raises :class:`NotFound` when no group knows it, and
        :class:`OutcomeUnknown` when only some could be asked and one of them ended it."""
        options = Options(session=_session_id(request.session), reason=request.reason)
        _check_reason(request.reason)
        mine, trouble = await self._register_everywhere(tenant.number)
        before = await self._beforehand.session(tenant.number, options.session)
        detail = {"reason": request.reason}
        note = Note(tenant.number, "session.end", request.session, detail, before=before, under=mine)
        under, ended = await self._changes.note_once(principal, address, note, number)
        try:
            if not await self._end_everywhere(tenant.number, options, {**mine, **under}, trouble):
                raise NotFound(f"there is no session {request.session}")
        except HoldfastError as error:
            ended(str(error))
            raise
        ended("done")
        return Done(request.session)

    async def _register_everywhere(self, tenant: int) -> tuple[dict[int, int], HoldfastError | None]:
        """By group, and why one of the others cannot be asked. Raises that when none can."""
        mine, trouble = {}, None
        for group in self._groups():
            try:
                mine[group] = await self._register(group, tenant)
            except HoldfastError as error:
                trouble = error
        if trouble is not None and not mine:
            raise trouble
        return mine, trouble

    async def _end_everywhere(
        self, tenant: int, options: Options, clients: dict[int, int], trouble: HoldfastError | None
    ) -> bool:
        """Whether any group knew the session. ``trouble``: why some have no client here."""
        known = False
        for group, client in clients.items():
            try:
                known = await self._do(group, tenant, client, Kind.END, options) == Status.OK or known
            except HoldfastError as error:
                trouble = error
        if trouble is not None and known:
            raise OutcomeUnknown(f"it was ended in some groups, and may go on in others: {trouble}; ask again")
        if trouble is not None:
            raise trouble
        return known

    async def _register(self, group: int, tenant: int) -> int:
        """A client for one operation: its row runs out by itself."""
        registered = await self._asker.ask(group, tenant, Kind.REGISTER, wait_s=ASK_S)
        if registered.statuses != bytes([Status.OK]):
            raise Unavailable(f"group {group} registers no client now: status {registered.statuses.hex()}")
        return registered.tokens[0]

    async def _do(
        self,
        group: int,
        tenant: int,
        client: int,
        kind: Kind,
        options: Options,
        slot: int = NO_SLOT,
        name: str = "",
        token: int = 0,
    ) -> int:
        answers = await self._asker.ask(
            group, tenant, kind, wait_s=ASK_S, slot=slot, client=client, name=name, token=token, options=options
        )
        status = answers.statuses[0]
        if status == Status.UNREGISTERED:
            raise OutcomeUnknown("this was asked before, too long ago for its outcome to be known: look, and ask anew")
        if status not in (Status.OK, Status.NOT_HELD, Status.LEASE_ENDED):
            raise Rejected(f"group {group} refuses with status {status}")
        return status

    def _at(self, cursor: str) -> tuple[int, str]:
        """Group and its own cursor."""
        groups = self._groups()
        if not cursor:
            return groups[0], ""
        number, _, inner = cursor.partition("/")
        for group in groups:
            if str(group) == number:
                return group, inner
        raise InvalidArgument("this cursor was not given by a list")

    def _next(self, group: int, inner: str) -> str:
        if inner:
            return f"{group}/{inner}"
        later = [number for number in self._groups() if number > group]
        return f"{later[0]}/" if later else ""


def _page(limit: int) -> int:
    if not 1 <= limit <= LIST_PAGE_MAX:
        raise InvalidArgument(f"a limit is 1 to {LIST_PAGE_MAX}, not {limit}")
    return limit


def _check_reason(reason: str) -> None:
    if len(reason.encode()) > REASON_BYTES_MAX:
        raise InvalidArgument(f"a reason has at most {REASON_BYTES_MAX} bytes")


def _session_id(text: str) -> bytes:
    try:
        number = bytes.fromhex(text)
    except ValueError:
        number = b""
    if len(number) != SESSION_ID_BYTES or len(text) != 2 * SESSION_ID_BYTES:
        raise InvalidArgument(f"a session id is {2 * SESSION_ID_BYTES} hexadecimal digits")
    return number


def _lock(view: LockView) -> LockDetail:
    return LockDetail(
        view.name, view.capacity, view.waiters, view.held, [_holder(holder) for holder in view.holders], view.closed_ms
    )


def _holder(view: HolderView) -> HolderDetail:
    leaving = Reason(view.leaving).name.lower() if view.leaving else ""
    return HolderDetail(
        view.token, Mode(view.mode).name.lower(), view.permits, view.session.hex(), _text(view.metadata), view.held_ms,
        view.remaining_ms, leaving, view.why, view.count,
    )  # fmt: skip


def _session(group: int, view: SessionView) -> SessionDetail:
    return SessionDetail(
        view.session.hex(), group, view.ttl_ms, view.remaining_ms, view.held, view.waiting, _text(view.metadata)
    )


def _text(metadata: bytes) -> str:
    return metadata.decode(errors="replace")
