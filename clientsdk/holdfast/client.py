"""The client: locks, semaphores, sessions, and what there is to see and do about those of others."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Self

import msgspec

from holdfast.address import key_of, parse_url
from holdfast.arguments import metadata_of, options_of, reason_of, ttl_ms_of, wait_ms_of
from holdfast.core.call import Answer, Call
from holdfast.core.group import GroupClient
from holdfast.core.refusals import refusal
from holdfast.errors import InvalidArgument, LockTimeout, NotHeld
from holdfast.info import LockInfo, SessionInfo, lock_info, session_info
from holdfast.link import Link
from holdfast.lock import Lock
from holdfast.session import Session
from holdfast.wire.frames import Kind, LockPage, LockView, Mode, Options, SessionPage, Status
from holdfast.wire.limits import CACHE_TTL_MS_MAX
from holdfast.wire.lockid import LockID, parse_lock_id
from holdfast.wire.names import check_name

TTL_S_DEFAULT = 30.0
TIMEOUT_S_DEFAULT = 5.0
CACHED_MAX = 10_000
"""Names whose "not held" is remembered; the oldest goes first."""


class Client:
    """Made by :func:`connect`. Belongs to the event loop it was opened in; use :mod:`holdfast.sync` from threads."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._core = link.core
        self._cached: dict[str, Lock] = {}

    async def close(self) -> None:
        """Give back everything held, as far as the service can be told within a second, and disconnect."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # Locks.

    def lock(
        self,
        name: str,
        *,
        ttl: float = TTL_S_DEFAULT,
        wait: float | None = None,
        shared: bool = False,
        metadata: bytes | str = b"",
        lock_delay: float = 0.0,
        renew: bool = True,
    ) -> Lock:
        """A lock on ``name``; nothing is sent before it is acquired.

        ``ttl``: seconds that it outlives a holder that died, 0.1 to 86,400. ``wait``: seconds to wait for it, None for
        as long as it takes, 0 to try. ``shared``: together with other shared holders. ``metadata``: up to 1 KiB for
        whoever inspects. ``lock_delay``: seconds for which nobody gets the name after this holder died holding it. ``renew``:
        False leaves renewing to :meth:`Lock.renew`. Raises :class:`InvalidName`, :class:`InvalidArgument`.
        """
        check_name(name)
        options = options_of(shared=shared, metadata=metadata, lock_delay=lock_delay)
        return Lock(self._link, name, ttl_ms_of(ttl), wait_ms_of(wait), options, None, renew)

    def semaphore(
        self,
        name: str,
        capacity: int,
        permits: int = 1,
        *,
        ttl: float = TTL_S_DEFAULT,
        wait: float | None = None,
        metadata: bytes | str = b"",
    ) -> Lock:
        """``permits`` of a semaphore of ``capacity``; the capacity is that of whoever uses it already, another is
        refused (:class:`CapacityMismatch`)."""
        check_name(name)
        options = options_of(metadata=metadata, permits=permits, capacity=capacity)
        return Lock(self._link, name, ttl_ms_of(ttl), wait_ms_of(wait), options, None, True)

    async def try_lock(
        self, name: str, *, ttl: float = TTL_S_DEFAULT, shared: bool = False, metadata: bytes | str = b""
    ) -> Lock | None:
        """The lock, held, or None when somebody else has it."""
        lock = self.lock(name, ttl=ttl, wait=0, shared=shared, metadata=metadata)
        try:
            return await lock.acquire()
        except LockTimeout:
            return None

    async def steal(
        self,
        name: str,
        *,
        reason: str = "",
        now: bool = False,
        ttl: float = TTL_S_DEFAULT,
        wait: float | None = None,
        metadata: bytes | str = b"",
    ) -> Lock:
        """Take the lock from whoever holds it, past everybody who waits; it is held when this returns.

        The victim is told with the reason, and the name passes on when it has let go or the last deadline it was told
        has passed. ``now`` does not wait for that: the victim may go on for a while, and only fencing tokens protect.
        """
        check_name(name)
        options = Options(metadata=metadata_of(metadata), steal=True, now=now, reason=reason_of(reason))
        lock = Lock(self._link, name, ttl_ms_of(ttl), wait_ms_of(wait), options, None, True)
        return await lock.acquire()

    def session(self, *, ttl: float = TTL_S_DEFAULT, metadata: bytes | str = b"") -> Session:
        """A session: any number of locks under one heartbeat."""
        self._core.check_open()
        return Session(self._link, ttl_ms_of(ttl), metadata_of(metadata))

    async def release(self, lock_id: str) -> None:
        """Release a grant by its LockID, whoever holds it. Raises :class:`NotHeld` when it is over already."""
        grant = parse_lock_id(lock_id, self._core.tenant)
        status, _, _ = await self._call(Kind.RELEASE, grant.name, token=grant.token)
        if status == Status.NOT_HELD:
            raise NotHeld(f"token {grant.token} of {grant.name!r} holds nothing")

    # Seeing. Reads are linearizable.

    async def get(self, name: str, *, cache: bool = False) -> LockInfo:
        """Who holds ``name``, and how many wait.

        ``cache``: an answer "not held" may be given again for up to a second without asking. It is never wrong about an
        acquire that has been answered: who acquires the name waits until the cachers have let go.
        """
        check_name(name)
        if cache:
            cached = self._cached.get(name)
            if cached is not None and cached.held:
                return LockInfo(name, (), 0, 0, 0.0)
            if await self._cache(name):
                return LockInfo(name, (), 0, 0, 0.0)
        _, _, detail = await self._call(Kind.GET, name)
        return lock_info(msgspec.convert(detail, LockView))

    async def _cache(self, name: str) -> bool:
        """Whether "not held" was had."""
        self._cached.pop(name, None)
        while len(self._cached) >= CACHED_MAX:
            del self._cached[next(iter(self._cached))]
        options = Options(mode=int(Mode.CACHE))
        lock = Lock(self._link, name, CACHE_TTL_MS_MAX, 0, options, None, False)
        try:
            await lock.acquire()
        except LockTimeout:
            return False
        self._cached[name] = lock
        # Recalled: somebody acquires the name, and waits for us to let go.
        lock.on_lost(lambda reason: self._uncache(name, lock))
        return True

    def _uncache(self, name: str, lock: Lock) -> None:
        if self._cached.get(name) is lock:
            del self._cached[name]
        lock.let_go()

    async def check(self, name_or_id: str, token: int | None = None) -> bool:
        """Whether a token is still the holder's: ``check(name, token)`` or ``check(lock_id)``."""
        if token is None:
            grant = parse_lock_id(name_or_id, self._core.tenant)
        else:
            check_name(name_or_id)
            grant = LockID(self._core.tenant, name_or_id, token)
        status, _, _ = await self._call(Kind.CHECK, grant.name, token=grant.token)
        return status == Status.OK

    async def list(self, prefix: str = "", *, page: int = 500) -> AsyncIterator[LockInfo]:
        """Every lock in use under ``prefix``, in no order. What changes meanwhile may be seen or not."""
        if not 1 <= page <= 1000:
            raise InvalidArgument(f"page is 1 to 1000, not {page}")
        for group in self._core.all_groups():
            cursor = ""
            while True:
                _, _, detail = await self._call(
                    Kind.LIST, prefix, options=Options(limit=page, cursor=cursor), group=group
                )
                found = msgspec.convert(detail, LockPage)
                for view in found.locks:
                    yield lock_info(view)
                cursor = found.cursor
                if not cursor:
                    break

    async def sessions(self) -> AsyncIterator[SessionInfo]:
        """Every session of the tenant; one that has something in several groups is seen once for each."""
        for group in self._core.all_groups():
            cursor = ""
            while True:
                _, _, detail = await self._call(Kind.SESSIONS, options=Options(cursor=cursor), group=group)
                found = msgspec.convert(detail, SessionPage)
                for view in found.sessions:
                    yield session_info(view)
                cursor = found.cursor
                if not cursor:
                    break

    # Doing something about others.

    async def force_release(self, name: str, *, token: int = 0, reason: str = "", now: bool = False) -> None:
        """Take the lock from its holder (of ``token``, or whoever it is); ``reason`` and ``now`` as for :meth:`steal`.

        Raises :class:`NotHeld` when nobody, or nobody with that token, holds it.
        """
        check_name(name)
        options = Options(reason=reason_of(reason), now=now)
        status, _, _ = await self._call(Kind.FORCE, name, token=token, options=options)
        if status == Status.NOT_HELD:
            raise NotHeld(f"nobody holds {name!r}" + (f" with token {token}" if token else ""))

    async def end_session(self, session_id: str, *, reason: str = "", now: bool = False) -> None:
        """End another's session in every group; as :meth:`steal` for all it holds. Raises :class:`NotHeld` when there
        is no such session."""
        try:
            raw = bytes.fromhex(session_id)
        except ValueError:
            raw = b""
        if len(raw) != 16:
            raise InvalidArgument("a session id has 32 hexadecimal digits")
        options = Options(session=raw, reason=reason_of(reason), now=now)
        found = False
        for group in self._core.all_groups():
            status, _, _ = await self._call(Kind.END, options=options, group=group)
            found = found or status == Status.OK
        if not found:
            raise NotHeld(f"there is no session {session_id}")

    async def status(self) -> dict[str, Any]:
        """Router and nodes as they see themselves; see ``holdfast status``."""
        waiter = self._link.loop.create_future()
        self._core.check_open()
        self._core.ask_status(waiter)
        status: dict[str, Any] = msgspec.msgpack.decode(await waiter)
        return status

    async def _call(
        self,
        kind: Kind,
        name: str = "",
        *,
        token: int = 0,
        options: Options | None = None,
        group: GroupClient | None = None,
    ) -> Answer:
        self._core.check_open()
        waiter = self._link.loop.create_future()
        Call(self._core, waiter, int(kind), name, token, options, group)
        answer: Answer = await waiter
        if answer[0] not in _EXPECTED:
            raise refusal(answer[0], answer[2], name, None)
        return answer


_EXPECTED = frozenset({int(Status.OK), int(Status.NOT_HELD), int(Status.LEASE_ENDED)})


class Connecting:
    """What :func:`connect` returns: ``client = await …``, or ``async with … as client``."""

    def __init__(self, link: Link) -> None:
        self._client = Client(link)
        self._link = link

    async def _open(self) -> Client:
        await self._link.open()
        return self._client

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        return await self._open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()


def connect(
    url: str | None = None,
    api_key: str | None = None,
    *,
    timeout: float = TIMEOUT_S_DEFAULT,
    tls: ssl.SSLContext | None = None,
) -> Connecting:
    """A client of the service at ``url`` (``holdfast://host:port[,host:port]``, ``holdfasts://`` for TLS).

    Defaults: ``HOLDFAST_URL`` and ``HOLDFAST_API_KEY``. ``timeout``: seconds that any answer may take; waiting for a
    lock is not waiting for an answer. Raises, when awaited or entered, :class:`Unavailable`, :class:`Unauthenticated`,
    :class:`InvalidArgument`.
    """
    if not 0 < timeout <= 60:
        raise InvalidArgument(f"timeout is more than 0 and at most 60 seconds, not {timeout}")
    return Connecting(Link(parse_url(url), key_of(api_key), timeout, tls))
