"""Sessions: any number of locks under one heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes
from types import TracebackType
from typing import TYPE_CHECKING, Self

from holdfast.arguments import options_of, wait_ms_of
from holdfast.core.session import SessionCore
from holdfast.lock import Lock
from holdfast.signals import Signal
from holdfast.wire.frames import Reason
from holdfast.wire.names import check_name

if TYPE_CHECKING:
    from holdfast.link import Link

SessionLostCallback = Callable[[Reason, tuple[str, ...]], object]


class Session:
    """Made by :meth:`Client.session`. However many locks are held through it, each shard group gets one keepalive.

    A part that is lost takes its locks with it, and the session takes no new ones; locks in other groups live on until
    the session is ended. ``async with session:`` ends it, and with it everything held through it.
    """

    __slots__ = ("_callbacks", "_core", "_link", "_lost")

    def __init__(self, link: Link, ttl_ms: int, metadata: bytes) -> None:
        self._link = link
        self._core = SessionCore(link.core, self, token_bytes(16), ttl_ms, metadata)
        self._lost: Signal[Reason] = Signal()
        self._callbacks: list[SessionLostCallback] = []

    @property
    def id(self) -> str:
        """32 hexadecimal digits, by which others see and end the session."""
        return self._core.id.hex()

    @property
    def lost(self) -> Signal[Reason]:
        """``await session.lost`` ends, with the reason, when a part of the session is lost."""
        return self._lost

    def on_lost(self, callback: SessionLostCallback) -> None:
        """Call ``callback(reason, names)`` in the event loop when a part is lost, with the names held through it."""
        self._callbacks.append(callback)

    def lock(
        self,
        name: str,
        *,
        wait: float | None = None,
        shared: bool = False,
        metadata: bytes | str = b"",
        lock_delay: float = 0.0,
        reentrant: bool = False,
    ) -> Lock:
        """A lock held through this session; arguments as for :meth:`Client.lock`.

        ``reentrant``: a name that the session holds already may be acquired again, and is free after as many releases.
        """
        check_name(name)
        options = options_of(shared=shared, metadata=metadata, lock_delay=lock_delay, reentrant=reentrant)
        return Lock(self._link, name, self._core.ttl_ms, wait_ms_of(wait), options, self._core, True)

    def semaphore(
        self, name: str, capacity: int, permits: int = 1, *, wait: float | None = None, metadata: bytes | str = b""
    ) -> Lock:
        """Permits held through this session; arguments as for :meth:`Client.semaphore`."""
        check_name(name)
        options = options_of(metadata=metadata, permits=permits, capacity=capacity)
        return Lock(self._link, name, self._core.ttl_ms, wait_ms_of(wait), options, self._core, True)

    async def end(self) -> None:
        """Let go of everything held through the session. Raises ``OutcomeUnknown`` when no answer came in time: what is
        held is not believed any more, and ends at the latest with the leases."""
        waiter = self._link.loop.create_future()
        self._core.end(waiter)
        await waiter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.end()

    def session_lost(self, reason: Reason, names: tuple[str, ...], text: str) -> None:
        """For the core."""
        self._lost.set(reason)
        for callback in self._callbacks:
            self._link.loop.call_soon(callback, reason, names)
