"""The SDK for threads: the same calls, which block.

One background thread per client runs the event loop that renews leases, so a lock is kept alive whatever the calling
threads do. What is lost is told by ``lock.lost``, an event that any thread may wait for, and by callbacks.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack, cast

import holdfast.client
import holdfast.lock
import holdfast.session
from holdfast.errors import AlreadyHeld, ClientClosed, LockTimeout, OutcomeUnknown, Rejected
from holdfast.info import LockInfo, SessionInfo
from holdfast.wire.frames import Reason
from holdfast.wire.limits import LIST_PAGE_MAX

__all__ = ["connect", "Client", "Lock", "Session"]

T = TypeVar("T")


class _Held(TypedDict, total=False):
    metadata: bytes | str
    lock_delay: float


class _Waiting(TypedDict, total=False):
    wait: float | None


class _Leased(TypedDict, total=False):
    ttl: float
    renew: bool
    session: Session | None


class _Shareable(TypedDict, total=False):
    shared: bool
    reentrant: bool


class _PermitsInSession(_Held, _Waiting, total=False):
    pass


class _LockInSession(_Held, _Waiting, _Shareable, total=False):
    pass


class _Permits(_Held, _Waiting, _Leased, total=False):
    pass


class _Try(_Held, _Leased, _Shareable, total=False):
    pass


class _Lock(_Try, _Waiting, total=False):
    pass


class _Steal(_Waiting, _Leased, total=False):
    metadata: bytes | str
    reason: str
    now: bool


class _Force(TypedDict, total=False):
    token: int
    reason: str
    now: bool


class _End(TypedDict, total=False):
    reason: str
    now: bool


class _NewSession(TypedDict, total=False):
    ttl: float
    metadata: bytes | str


class _Connect(TypedDict, total=False):
    timeout: float
    tls: ssl.SSLContext | None


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopped = False
        """Nothing is handed to the loop any more."""
        self._thread = threading.Thread(target=self._run, name="holdfast", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; interrupting the caller cancels it."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a callback must not block the client's own thread, in which it runs: use another")
        future = self._hand_over(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    def _hand_over(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        # In a forked child the thread is gone, and the lock may be held for ever by one that is gone too.
        if self._thread.is_alive():
            with self._lock:
                if not self._stopped:
                    return asyncio.run_coroutine_threadsafe(work, self.loop)
        work.close()
        raise _closed()

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def _closed() -> ClientClosed:
    return ClientClosed("the client is closed, or belongs to the process that this one was forked from")


class Lock:
    """A lock for threads; see :class:`holdfast.Lock`. ``with lock:`` acquires and releases.

    A lock that is lost inside the block does not interrupt it: look at ``held`` or wait for ``lost`` between steps, and
    send ``token`` along with every write. Leaving the block then raises :class:`LockLost`.
    """

    def __init__(self, loop: _Loop, lock: holdfast.lock.Lock) -> None:
        self._loop = loop
        self._lock = lock
        self.lost = threading.Event()
        """Set when the lock was held and is so no longer, other than by a release of ours."""
        self._entered = False
        lock.on_lost(self._note)

    def _note(self, reason: Reason) -> None:
        self.lost.set()

    @property
    def name(self) -> str:
        return self._lock.name

    @property
    def held(self) -> bool:
        """Whether the lock may be believed held, by the clock as of now."""
        return self._lock.held

    def remaining(self) -> float:
        """Seconds for which the lock may be believed held if it is never renewed again; 0 when it is not."""
        return self._lock.remaining()

    @property
    def token(self) -> int:
        """The fencing token. Raises as :attr:`holdfast.Lock.token`."""
        return self._lock.token

    @property
    def id(self) -> str:
        """The grant as opaque text."""
        return self._lock.id

    def on_lost(self, callback: Callable[[Reason], object]) -> None:
        """Call ``callback(reason)``, in the client's own thread, when the lock is lost. It must not block."""
        self._lock.on_lost(callback)

    def acquire(self) -> Self:
        """Wait until the lock is held. Raises as :meth:`holdfast.Lock.acquire`."""
        self._loop.run(self._acquire())
        return self

    async def _acquire(self) -> None:
        # An end of the hold before, unnoticed so far, is told first: it must not be taken for one of the next.
        self._lock.notice()
        await asyncio.sleep(0)
        self.lost.clear()
        await self._lock.acquire()

    def release(self) -> None:
        """Let go. Raises as :meth:`holdfast.Lock.release`."""
        self._loop.run(self._lock.release())

    def renew(self) -> None:
        """Renew the lease now. Raises as :meth:`holdfast.Lock.renew`."""
        self._loop.run(self._lock.renew())

    def __enter__(self) -> Self:
        if self._entered:
            raise AlreadyHeld(f"this object of lock {self.name!r} is in a block already; make another")
        if not self.held:
            self.acquire()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered = False
        lost = self._loop.run(self._lock.leave())
        if lost is not None and error is None:
            raise lost


class Session:
    """A session for threads; see :class:`holdfast.Session`."""

    def __init__(self, loop: _Loop, session: holdfast.session.Session) -> None:
        self._loop = loop
        self._session = session
        self.lost = threading.Event()
        session.on_lost(lambda loss: self.lost.set())

    def on_lost(self, callback: Callable[[holdfast.session.SessionLoss], object]) -> None:
        """Call ``callback(loss)``, in the client's own thread, whenever a part of the session is lost."""
        self._session.on_lost(callback)

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def wrapped(self) -> holdfast.session.Session:
        return self._session

    def lock(self, name: str, **options: Unpack[_LockInSession]) -> Lock:
        """As :meth:`holdfast.Session.lock`."""
        return Lock(self._loop, self._session.lock(name, **options))

    def semaphore(self, name: str, capacity: int, permits: int = 1, **options: Unpack[_PermitsInSession]) -> Lock:
        """As :meth:`holdfast.Session.semaphore`."""
        return Lock(self._loop, self._session.semaphore(name, capacity, permits, **options))

    def end(self) -> None:
        """Let go of everything held through the session."""
        self._loop.run(self._session.end())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OutcomeUnknown, Rejected):
            self.end()


class Client:
    """Made by :func:`connect`; any thread may use it. See :class:`holdfast.Client` for arguments and errors."""

    def __init__(self, loop: _Loop, client: holdfast.client.Client) -> None:
        self._loop = loop
        self._client = client

    def close(self) -> None:
        """Give back what is held and disconnect."""
        try:
            self._loop.run(self._client.close())
        except ClientClosed:
            return
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def lock(self, name: str, **options: Unpack[_Lock]) -> Lock:
        return Lock(self._loop, self._client.lock(name, **_unwrapped(options)))

    def semaphore(self, name: str, capacity: int, permits: int = 1, **options: Unpack[_Permits]) -> Lock:
        return Lock(self._loop, self._client.semaphore(name, capacity, permits, **_unwrapped(options)))

    def try_lock(self, name: str, **options: Unpack[_Try]) -> Lock | None:
        lock = Lock(self._loop, self._client.lock(name, wait=0, **_unwrapped(options)))
        try:
            return lock.acquire()
        except LockTimeout:
            return None

    def session(self, **options: Unpack[_NewSession]) -> Session:
        return Session(self._loop, self._client.session(**options))

    def steal(self, name: str, **options: Unpack[_Steal]) -> Lock:
        return Lock(self._loop, self._loop.run(self._client.steal(name, **_unwrapped(options))))

    def get(self, name: str, *, cache: bool = False) -> LockInfo:
        return self._loop.run(self._client.get(name, cache=cache))

    def check(self, lock: str, token: int | None = None) -> bool:
        return self._loop.run(self._client.check(lock, token))

    def release(self, lock_id: str) -> None:
        self._loop.run(self._client.release(lock_id))

    def force_release(self, name: str, **options: Unpack[_Force]) -> None:
        self._loop.run(self._client.force_release(name, **options))

    def end_session(self, session_id: str, **options: Unpack[_End]) -> None:
        self._loop.run(self._client.end_session(session_id, **options))

    def status(self) -> dict[str, Any]:
        return self._loop.run(self._client.status())

    def list(self, prefix: str = "", *, page: int = LIST_PAGE_MAX) -> Iterator[LockInfo]:
        return self._each(self._client.list(prefix, page=page))

    def watch(self, name: str = "", *, prefix: str | None = None) -> Iterator[LockInfo]:
        """As :meth:`holdfast.Client.watch`; ``next`` blocks until there is a change, or the client is closed."""

        async def watching() -> AsyncIterator[LockInfo]:
            return self._client.watch(name, prefix=prefix)

        return self._each(self._loop.run(watching()))

    def sessions(self, *, page: int = LIST_PAGE_MAX) -> Iterator[SessionInfo]:
        return self._each(self._client.sessions(page=page))

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> T:
            return await anext(items)

        while True:
            try:
                yield self._loop.run(following())
            except StopAsyncIteration:
                return


def _unwrapped(options: _Lock | _Try | _Permits | _Steal) -> Any:
    """The same for the asyncio client, whose session is within ours."""
    found = cast("dict[str, Any]", options)
    session = found.get("session")
    return {**found, "session": session.wrapped} if session is not None else found


def connect(url: str | None = None, api_key: str | None = None, **options: Unpack[_Connect]) -> Client:
    """A connected client for threads; arguments and errors as for :func:`holdfast.connect`."""
    loop = _Loop()

    async def opened() -> holdfast.client.Client:
        return await holdfast.client.connect(url, api_key, **options)

    try:
        return Client(loop, loop.run(opened()))
    except BaseException:
        loop.stop()
        raise
