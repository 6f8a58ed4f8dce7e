"""Locks as callers hold them.

What can go wrong comes first, for it decides how a lock is used. A lock is held under a lease. While the service can be
reached the lease is renewed; when it cannot, belief ends before the service can grant the name to another:

    t=0    lease of 30 s granted, renewed at 10 s, 20 s, …
    t=20   the network is gone; the lease was last renewed by what left at t=20
    t=49.7 this process stops believing: ``held`` is false, ``lost`` is set, an ``async with`` body is cancelled
    t=50+  the service may grant the name to another, with a higher token

A process that is stopped between looking and acting knows nothing of this. Against that only the *fencing token* helps:
pass ``lock.token`` along with every write, and let the store refuse one that is lower than the highest it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from holdfast.core.hold import Hold
from holdfast.core.state import HELD, IDLE, LOST, RELEASING
from holdfast.errors import AlreadyHeld, LockLost, NotHeld, OutcomeUnknown, Rejected
from holdfast.signals import Signal
from holdfast.wire.frames import Options, Reason
from holdfast.wire.lockid import LockID

if TYPE_CHECKING:
    from holdfast.core.session import SessionCore
    from holdfast.link import Link

LostCallback = Callable[[Reason], object]


class Lock:
    """One name, held at most once at a time through this object. Made by :meth:`Client.lock`; costs nothing until used.

    ``async with lock:`` acquires and releases. When the lock is lost inside, the body is cancelled at its next await
    and the block raises :class:`LockLost`. Leaving the block never fails for a release that got no answer: it is
    carried out in the background, or the lease runs out.
    """

    __slots__ = ("_callbacks", "_cancelled", "_cancelling", "_hold", "_link", "_lost", "_task")

    def __init__(
        self,
        link: Link,
        name: str,
        ttl_ms: int,
        wait_ms: int,
        options: Options | None,
        session: SessionCore | None,
        renew: bool,
    ) -> None:
        self._link = link
        self._hold = Hold(link.core, name, ttl_ms, wait_ms, options, session, renew)
        self._lost: Signal[Reason] | None = None
        self._callbacks: list[LostCallback] | None = None
        self._task: asyncio.Task[object] | None = None
        """Whose body to cancel on loss; set while inside ``async with``."""
        self._cancelled = False
        self._cancelling = 0

    # What it is.

    @property
    def name(self) -> str:
        return self._hold.name

    @property
    def held(self) -> bool:
        """Whether the lock may be believed held, by the clock as of now."""
        return self.remaining() > 0.0

    def remaining(self) -> float:
        """Seconds for which the lock may be believed held if it is never renewed again; 0 when it is not."""
        until_ms = self._hold.until_ms
        return max((until_ms - self._hold.core.clock()) / 1000, 0.0) if until_ms else 0.0

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every earlier grant of this name, below 2^53.

        Raises :class:`LockLost` when the lock was held and is not any more, :class:`NotHeld` when it never was.
        """
        hold = self._hold
        if hold.until_ms > hold.core.clock():
            return hold.token
        raise self._not_held()

    @property
    def id(self) -> str:
        """The grant as opaque text, by which any process of the tenant can release or check it. Raises as ``token``."""
        core = self._hold.core
        return LockID(core.tenant, self.name, self.token).text(core.seal)

    @property
    def lost(self) -> Signal[Reason]:
        """``await lock.lost`` ends, with the reason, when the lock is not held any more (``RELEASED`` when let go)."""
        if self._lost is None:
            self._lost = Signal()
            hold = self._hold
            if hold.token and hold.state in (IDLE, RELEASING, LOST):
                self._lost.set(hold.reason or Reason.RELEASED)
        return self._lost

    def on_lost(self, callback: LostCallback) -> None:
        """Call ``callback(reason)`` in the event loop when the lock is lost, also by the end of our own session."""
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def _not_held(self) -> LockLost | NotHeld:
        hold = self._hold
        if hold.core.closed and hold.state is HELD:
            return NotHeld(f"lock {hold.name!r} is not held: the client was closed, or belongs to the parent process")
        if hold.state is LOST or hold.reason:
            return LockLost(hold.name, hold.token, hold.reason, hold.text)
        if hold.state is HELD:
            return LockLost(hold.name, hold.token, Reason.EXPIRED, "it could not be renewed in time")
        return NotHeld(f"lock {hold.name!r} is not held")

    def notice(self) -> None:
        """Take note of an end of belief that no timer has noticed yet."""
        self._hold.check_clock()

    # Holding.

    async def acquire(self) -> Self:
        """Wait until the lock is held, as long as ``wait`` allows.

        Raises :class:`LockTimeout` when it was not had in time, :class:`Unavailable` when the service could not be
        reached in time (then nothing is held, and nothing will be), :class:`AlreadyHeld`, :class:`QuotaExceeded`,
        :class:`CapacityMismatch`, :class:`SessionLost`. A cancelled acquire leaves nothing behind.
        """
        hold = self._hold
        core = hold.core
        core.check_acquire(hold.name, hold.options)
        if hold.state is not IDLE:
            hold.check_clock()
            if hold.state is not LOST:
                raise AlreadyHeld(f"this lock object of {hold.name!r} is in use; make another with client.lock()")
        if self._lost is not None and self._lost.is_set():
            self._lost = None
        waiter = self._link.loop.create_future()
        hold.acquire(waiter, self)
        try:
            await waiter
        except asyncio.CancelledError:
            hold.give_up()
            raise
        if hold.until_ms <= core.clock():
            # Granted, and lost again before this task had its turn.
            lost = self._not_held()
            self.let_go()
            raise lost
        return self

    async def release(self) -> None:
        """Let go. Raises :class:`LockLost` when it was lost before, :class:`NotHeld` when it was not held.

        Cancelling this does not cancel the release. ``OutcomeUnknown`` or ``Unavailable``: no answer came in time; the
        release goes on in the background.
        """
        hold = self._hold
        hold.check_clock()
        if hold.state is not HELD:
            lost = self._not_held()
            self.let_go()
            raise lost
        waiter = self._link.loop.create_future()
        hold.release(waiter)
        if self._lost is not None:
            self._lost.set(Reason.RELEASED)
        await waiter

    def let_go(self) -> None:
        """Whoever took the lock need not wait for the last deadline that we were told."""
        if self._hold.state is LOST:
            self._hold.release(None)

    async def renew(self) -> None:
        """Renew the lease now (that of the whole session, in the lock's group, when it is held through one).

        Needed only with ``renew=False``. Raises :class:`LockLost` when it is over; ``OutcomeUnknown`` when no answer
        came in time.
        """
        hold = self._hold
        hold.check_clock()
        if hold.lease is None or hold.state is not HELD:
            raise self._not_held()
        waiter = self._link.loop.create_future()
        hold.lease.renew(waiter)
        await waiter
        if hold.state is not HELD:
            raise self._not_held()

    # async with.

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise AlreadyHeld(f"this object of lock {self.name!r} is in a block already; make another")
        if not self.held:
            await self.acquire()
        task = asyncio.current_task()
        assert task is not None, "async with runs in a task"
        self._cancelled = False
        self._cancelling = task.cancelling()
        self._task = task
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        cancelled, self._cancelled = self._cancelled, False
        lost = await self.leave(lost_for_certain=cancelled)
        if lost is None:
            return
        if cancelled:
            assert task is not None
            cancelled_by_others = task.uncancel() > self._cancelling
            if exc is not None and (cancelled_by_others or exc_type is not asyncio.CancelledError):
                # Somebody else cancels too, or the body has its own error to tell.
                return
        elif exc is not None:
            return
        raise lost from exc

    async def leave(self, *, lost_for_certain: bool = False) -> LockLost | NotHeld | None:
        """The end of a block: let go, or say that the lock was lost. None when all is well, also when it was released
        within the block. A release that gets no answer is carried out in the background, or the lease runs out."""
        hold = self._hold
        hold.check_clock()
        if hold.state is HELD:
            waiter = self._link.loop.create_future()
            hold.release(waiter)
            if self._lost is not None:
                self._lost.set(Reason.RELEASED)
            with contextlib.suppress(OutcomeUnknown, Rejected):
                await waiter
            return None
        if hold.state is not LOST and not lost_for_certain:
            return None
        lost = self._not_held()
        self.let_go()
        return lost

    # The core's listener.

    def hold_lost(self, reason: Reason, text: str) -> None:
        if self._lost is not None:
            self._lost.set(reason)
        for callback in self._callbacks or ():
            self._link.loop.call_soon(callback, reason)
        task, current = self._task, asyncio.current_task(self._link.loop)
        if task is not None and current is not None and current is task:
            # A call of its own found out. Python 3.11 cannot take back the cancel of a running task (uncancel leaves it
            # pending), so it is cancelled at its next await, if it is in the block then.
            self._link.loop.call_soon(self._cancel_body, current)
        elif task is not None:
            self._cancel_body(task)

    def _cancel_body(self, task: asyncio.Task[object]) -> None:
        if self._task is task and not self._cancelled:
            self._cancelled = True
            task.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._hold.state.name.lower()}>"
