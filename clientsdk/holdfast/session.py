"""Many locks under one lease per group."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from holdfast.arguments import options_of, wait_ms_of
from holdfast.core.session import SessionCore
from holdfast.errors import InvalidArgument, OutcomeUnknown, Rejected
from holdfast.lock import Lock
from holdfast.semaphore import Semaphore
from holdfast.signals import Signal
from holdfast.wire.frames import Reason
from holdfast.wire.names import check_name

if TYPE_CHECKING:
    from holdfast.link import Link


@dataclass(frozen=True, slots=True)
class SessionLoss:
    """What ended, and the names of the locks that were lost with it."""

    reason: Reason
    names: tuple[str, ...]
    text: str = ""


SessionLostCallback = Callable[[SessionLoss], object]


class Session:
    """Locks that live and die together, kept alive by one keepalive per shard group however many they are.

    A session has a part in each group in which something is held or awaited through it. Losing a part loses its locks
    and sets ``lost``; the locks in other parts live on, but the session takes no new ones.
    """

    def __init__(self, link: Link, ttl_ms: int, metadata: bytes) -> None:
        self._link = link
        self._id = link.rng.randbytes(16)
        self._core = SessionCore(link.core, self, self._id, ttl_ms, metadata)
        self._lost: Signal[SessionLoss] = Signal()
        self._callbacks: list[SessionLostCallback] = []

    @property
    def id(self) -> str:
        """By which any process of the tenant can end it: ``client.end_session(id)``."""
        return self._id.hex()

    @property
    def core(self) -> SessionCore:
        return self._core

    @property
    def lost(self) -> Signal[SessionLoss]:
        """``await session.lost`` ends when a part of the session is lost."""
        return self._lost

    def on_lost(self, callback: SessionLostCallback) -> None:
        """Call ``callback(loss)`` in the event loop whenever a part of the session is lost."""
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
        """As :meth:`Client.lock`, under the session's lease and TTL."""
        check_name(name)
        options = options_of(shared=shared, metadata=metadata, lock_delay=lock_delay, reentrant=reentrant)
        return Lock(self._link, name, self._core.ttl_ms, wait_ms_of(wait), options, self._core, True)

    def semaphore(
        self,
        name: str,
        capacity: int,
        permits: int = 1,
        *,
        wait: float | None = None,
        metadata: bytes | str = b"",
        lock_delay: float = 0.0,
    ) -> Semaphore:
        """As :meth:`Client.semaphore`, under the session's lease and TTL."""
        check_name(name)
        if capacity < 1:
            raise InvalidArgument(f"capacity is at least 1, not {capacity}")
        options = options_of(metadata=metadata, lock_delay=lock_delay, permits=permits, capacity=capacity)
        return Semaphore(self._link, name, self._core.ttl_ms, wait_ms_of(wait), options, self._core, True)

    async def end(self) -> None:
        """Let go of everything held through the session. It cannot be used afterwards.

        Raises ``OutcomeUnknown`` or ``Unavailable`` when not every group answered in time; then it goes on in the
        background.
        """
        waiter = self._link.loop.create_future()
        self._core.end(waiter)
        await waiter

    async def __aenter__(self) -> Self:
        self._link.core.check_open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OutcomeUnknown, Rejected):
            await self.end()

    def session_lost(self, reason: Reason, names: tuple[str, ...], text: str) -> None:
        """The core's listener."""
        loss = SessionLoss(reason, names, text)
        self._lost.set(loss)
        for callback in self._callbacks:
            self._link.loop.call_soon(callback, loss)
