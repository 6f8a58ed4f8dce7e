"""The client: where locks, sessions and inspection come from."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from holdfast.absence import AbsenceCache
from holdfast.address import key_of, parse_url
from holdfast.arguments import metadata_of, options_of, prefix_of, reason_of, token_of, ttl_ms_of, wait_ms_of
from holdfast.core.call import Answer, Call
from holdfast.core.group import GroupClient
from holdfast.core.refusals import refusal
from holdfast.errors import InvalidArgument, LockTimeout, NotHeld, Unavailable
from holdfast.info import LockInfo, SessionInfo, lock_info, session_info
from holdfast.link import Link
from holdfast.lock import Lock
from holdfast.semaphore import Semaphore
from holdfast.session import Session
from holdfast.watching import Watching
from holdfast.wire.frames import Kind, LockPage, LockView, Options, SessionPage, Status
from holdfast.wire.limits import DEADLINE_MS_MAX, LIST_PAGE_MAX
from holdfast.wire.lockid import parse_lock_id
from holdfast.wire.names import check_name

T = TypeVar("T")


class Client:
    """One process's way to the service. Belongs to the event loop that opened it, and to the process: a forked child's
    copy is closed and holds nothing."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._core = link.core
        self._absence = AbsenceCache(link)

    # Life.

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back what is held and disconnect. What the service cannot be told within a second runs out by itself."""
        await self._link.close()

    @property
    def closed(self) -> bool:
        return self._core.closed

    # Locks.

    def lock(
        self,
        name: str,
        *,
        ttl: float = 30.0,
        wait: float | None = None,
        shared: bool = False,
        metadata: bytes | str = b"",
        lock_delay: float = 0.0,
        session: Session | None = None,
        reentrant: bool = False,
        renew: bool = True,
    ) -> Lock:
        """A lock by that name; nothing is asked of the service until it is acquired.

        ``ttl``: seconds of its lease, 0.1 to 86,400. ``wait``: seconds to queue for it, 0 to try once, None for as long
        as it takes (24 h). ``shared``: together with other shared holders. ``metadata``: up to 1 KiB, shown to whoever
        inspects. ``lock_delay``: seconds, at most 60, for which the name stays closed after this holder's lease ran
        out. ``session``: hold it under that session's lease. ``reentrant``: the session may hold it several times.
        ``renew=False``: the lease is renewed by :meth:`Lock.renew` only.

        Raises :class:`InvalidName` or :class:`InvalidArgument`.
        """
        if session is not None:
            return session.lock(
                name, wait=wait, shared=shared, metadata=metadata, lock_delay=lock_delay, reentrant=reentrant
            )
        if reentrant:
            raise InvalidArgument("reentrant needs a session, which is what holds a name several times")
        check_name(name)
        ttl_ms = ttl_ms_of(ttl)
        options = options_of(shared=shared, metadata=metadata, lock_delay=lock_delay)
        return Lock(self._link, name, ttl_ms, wait_ms_of(wait), options, None, renew)

    async def try_lock(
        self,
        name: str,
        *,
        ttl: float = 30.0,
        shared: bool = False,
        metadata: bytes | str = b"",
        lock_delay: float = 0.0,
        session: Session | None = None,
        reentrant: bool = False,
        renew: bool = True,
    ) -> Lock | None:
        """The lock, held, or None when others hold or await it. Arguments and errors otherwise as with :meth:`lock`."""
        lock = self.lock(
            name, ttl=ttl, wait=0, shared=shared, metadata=metadata, lock_delay=lock_delay, session=session,
            reentrant=reentrant, renew=renew,
        )  # fmt: skip
        try:
            return await lock.acquire()
        except LockTimeout:
            return None

    def semaphore(
        self,
        name: str,
        capacity: int,
        permits: int = 1,
        *,
        ttl: float = 30.0,
        wait: float | None = None,
        metadata: bytes | str = b"",
        lock_delay: float = 0.0,
        session: Session | None = None,
        renew: bool = True,
    ) -> Semaphore:
        """``permits`` of a semaphore of ``capacity`` permits, at most 1,000,000. Otherwise as :meth:`lock`."""
        if session is not None:
            return session.semaphore(name, capacity, permits, wait=wait, metadata=metadata, lock_delay=lock_delay)
        check_name(name)
        if capacity < 1:
            raise InvalidArgument(f"capacity is at least 1, not {capacity}")
        options = options_of(metadata=metadata, lock_delay=lock_delay, permits=permits, capacity=capacity)
        return Semaphore(self._link, name, ttl_ms_of(ttl), wait_ms_of(wait), options, None, renew)

    def session(self, *, ttl: float = 30.0, metadata: bytes | str = b"") -> Session:
        """A session; it exists in the service once something is held or awaited through it."""
        return Session(self._link, ttl_ms_of(ttl), metadata_of(metadata))

    async def steal(
        self,
        name: str,
        *,
        ttl: float = 30.0,
        wait: float | None = None,
        metadata: bytes | str = b"",
        session: Session | None = None,
        reason: str = "",
        now: bool = False,
        renew: bool = True,
    ) -> Lock:
        """Take the lock from whoever holds it, ahead of all who wait; returns it held.

        The holder is told, with ``reason``, and the lock passes on when it has let go or when the last deadline that it
        was told has passed, so that there are never two believers. ``now=True`` does not wait for that: the one thing
        that breaks the rule of one holder, and then only the fencing token protects.
        """
        check_name(name)
        options = Options(metadata=metadata_of(metadata), steal=True, now=now, reason=reason_of(reason))
        core = session.core if session is not None else None
        ttl_ms = core.ttl_ms if core is not None else ttl_ms_of(ttl)
        return await Lock(self._link, name, ttl_ms, wait_ms_of(wait), options, core, renew).acquire()

    async def release(self, lock_id: str) -> None:
        """Release a grant by its LockID, from any process. Raises :class:`NotHeld` when it holds nothing any more."""
        found = parse_lock_id(lock_id, self._core.tenant, self._core.seal)
        await self._held_call(Kind.RELEASE, found.name, found.token, None)

    async def force_release(self, name: str, *, token: int = 0, reason: str = "", now: bool = False) -> None:
        """Take the lock from its holders (from that of ``token`` alone when given), as :meth:`steal` does.

        Raises :class:`NotHeld` when nobody holds it.
        """
        check_name(name)
        token_of(token)
        await self._held_call(Kind.FORCE, name, token, Options(reason=reason_of(reason), now=now))

    async def _held_call(self, kind: Kind, name: str, token: int, options: Options | None) -> None:
        status, _, detail = await self._call(kind, name, token, options)
        if status == Status.NOT_HELD:
            raise NotHeld(f"lock {name!r} is not held{f' under token {token}' if token else ''}")
        if status != Status.OK:
            raise refusal(status, detail, name, None)

    async def end_session(self, session_id: str, *, reason: str = "", now: bool = False) -> None:
        """End a session of any process, in every group; its locks pass on as with :meth:`steal`.

        Raises :class:`NotHeld` when there is no such session.
        """
        try:
            number = bytes.fromhex(session_id)
        except ValueError:
            number = b""
        if len(number) != 16:
            raise InvalidArgument(f"a session id is 32 hexadecimal digits, not {session_id!r}")
        options = Options(session=number, reason=reason_of(reason), now=now)
        found = False
        for group in self._core.all_groups():
            status, _, detail = await self._call(Kind.END, "", 0, options, group)
            if status not in (Status.OK, Status.LEASE_ENDED):
                raise refusal(status, detail, "", None)
            found = found or status == Status.OK
        if not found:
            raise NotHeld(f"there is no session {session_id}")

    # Inspection.

    async def get(self, name: str, *, cache: bool = False) -> LockInfo:
        """Who holds the name, and how many wait.

        ``cache=True`` may answer "not held" from this process for up to a second, without being wrong about any acquire
        that has been answered: whoever wants the name waits until the cachers have let go.
        """
        check_name(name)
        if cache:
            self._core.check_right(Kind.ACQUIRE, name, None)
        if cache and (self._absence.knows(name) or await self._absence.learn(name)):
            return LockInfo(name, 0, 0, (), 0.0, 0)
        status, _, detail = await self._call(Kind.GET, name)
        if status != Status.OK:
            raise refusal(status, detail, name, None)
        return lock_info(msgspec.convert(detail, LockView))

    async def check(self, lock: str, token: int | None = None) -> bool:
        """Whether ``token`` still holds the lock of that name; or whether a LockID, given alone, still does."""
        if token is None:
            found = parse_lock_id(lock, self._core.tenant, self._core.seal)
            lock, token = found.name, found.token
        check_name(lock)
        token_of(token)
        status, _, detail = await self._call(Kind.CHECK, lock, token)
        if status not in (Status.OK, Status.NOT_HELD):
            raise refusal(status, detail, lock, None)
        return status == Status.OK

    async def list(self, prefix: str = "", *, page: int = LIST_PAGE_MAX) -> AsyncIterator[LockInfo]:
        """Every name under the prefix that is held, awaited or closed, group by group, fetched ``page`` at a time.

        Each page is as of its own moment: what changes in between may be missed or shown twice.
        """
        _check_page(page)
        prefix_of(prefix)
        for group in self._core.all_groups():
            cursor = ""
            while True:
                found = await self._page(Kind.LIST, prefix, Options(cursor=cursor, limit=page), group, LockPage)
                for view in found.locks:
                    yield lock_info(view)
                cursor = found.cursor
                if not cursor:
                    break

    def watch(self, name: str = "", *, prefix: str | None = None) -> Watching:
        """How the name looks, now and after every change, for as long as the iteration goes on.

        With ``prefix`` instead: every name under it that is held, awaited or closed, and each that changes; one that is
        free again is shown once so. What is shown is the latest: whoever is slower than the changes sees fewer of them.
        A renewal is no change, nor is time that passes. Trouble on the way is waited out, and what changed meanwhile is
        shown then.

        Raises :class:`InvalidName` or :class:`InvalidArgument`, and :class:`ClientClosed` when the client is closed,
        then and later.
        """
        if prefix is None:
            check_name(name)
        elif name:
            raise InvalidArgument("a name or a prefix is watched, not both: iterate over two watches")
        self._core.check_open()
        return Watching(self._link, name if prefix is None else prefix_of(prefix), prefix=prefix is not None)

    async def sessions(self, *, page: int = LIST_PAGE_MAX) -> AsyncIterator[SessionInfo]:
        """Every session's part in every group."""
        _check_page(page)
        for group in self._core.all_groups():
            cursor = ""
            while True:
                found = await self._page(Kind.SESSIONS, "", Options(cursor=cursor, limit=page), group, SessionPage)
                for view in found.sessions:
                    yield session_info(group.number, view)
                cursor = found.cursor
                if not cursor:
                    break

    async def _page(self, kind: Kind, name: str, options: Options, group: GroupClient, shape: type[T]) -> T:
        status, _, detail = await self._call(kind, name, 0, options, group)
        if status != Status.OK:
            raise refusal(status, detail, name, None)
        return msgspec.convert(detail, shape)

    async def status(self) -> dict[str, Any]:
        """What the router knows of itself, of the nodes and of the groups."""
        self._core.check_open()
        waiter = self._link.loop.create_future()
        self._core.ask_status(waiter)
        try:
            body: bytes = await asyncio.wait_for(waiter, self._core.timeout_ms / 1000)
        except TimeoutError:
            raise Unavailable(f"the router did not answer within {self._core.timeout_ms / 1000:g} s") from None
        return msgspec.msgpack.decode(body, type=dict[str, Any])

    async def _call(
        self, kind: Kind, name: str, token: int = 0, options: Options | None = None, group: GroupClient | None = None
    ) -> Answer:
        self._core.check_open()
        self._core.check_right(kind, name, options)
        waiter: Any = self._link.loop.create_future()
        Call(self._core, waiter, int(kind), name, token, options, group)
        answer: Answer = await waiter
        return answer


def _check_page(page: int) -> None:
    if not 1 <= page <= LIST_PAGE_MAX:
        raise InvalidArgument(f"page is 1 to {LIST_PAGE_MAX}, not {page}")


class Connecting:
    """What :func:`connect` returns: ``client = await …``, or ``async with … as client``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def _open(self) -> Client:
        await self._link.open()
        return Client(self._link)

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        return await self._open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._link.close()


def connect(
    url: str | None = None,
    api_key: str | None = None,
    *,
    timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
) -> Connecting:
    """A client of the service: ``async with connect(...) as client``, or ``client = await connect(...)``.

    ``url`` (else ``HOLDFAST_URL``) names one or more routers, ``holdfast://host:port[,host:port]``; ``holdfasts://``
    uses TLS, with ``tls`` or the system's certificates. ``api_key`` is else ``HOLDFAST_API_KEY``. ``timeout`` is how
    many seconds any answer may take; waiting for a lock that others hold is not an answer's time.

    Connecting raises :class:`Unavailable` when no router answers in time, :class:`Unauthenticated` for a wrong key,
    :class:`Forbidden` for that of a suspended tenant. What the key's role or name prefix does not allow raises
    :class:`Forbidden`, too, before anything is sent.
    """
    longest = DEADLINE_MS_MAX / 1000
    if not 0 < timeout <= longest:
        raise InvalidArgument(f"timeout is more than 0 and at most {longest:g} seconds, not {timeout}")
    address = parse_url(url)
    if tls is not None and not address.tls:
        raise InvalidArgument("tls was passed, but the url begins with holdfast://: it must begin with holdfasts://")
    return Connecting(Link(address, key_of(api_key), timeout, tls))
