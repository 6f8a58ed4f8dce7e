"""An asyncio event loop on simulated time: one per process, stepped by the world, over simulated connections.

What runs on it is the code that serves, unchanged: tasks, timers, protocols. A turn of the loop runs what was ready
when it began, as asyncio's own loops do, so that whatever may happen between two turns may happen here.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import World

TIMER_SLACK_S = 1e-6
"""Rounding between a process's clock and the world's: a timer never finds that its time has not come."""
TURN_COST_S = 40e-6
"""Longest time that a turn of a loop takes."""


class Process:
    """A process: an event loop, a clock with its own rate and offset, a machine it runs on, and a fate."""

    def __init__(self, world: World, name: str, host: str, *, rate: float = 1.0, offset_s: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.alive = True
        self.paused_until = 0.0
        self._rate = rate
        self._offset_s = offset_s
        self._ready: deque[asyncio.Handle] = deque()
        self._scheduled = False
        self._chance = world.stream(f"turns of {name}")
        self.loop = SimLoop(self)  # type: ignore[abstract]
        self.on_turn: Callable[[], None] | None = None
        """Called after each turn, for whoever watches."""

    def clock_s(self) -> float:
        return self._offset_s + self.world.now * self._rate

    def clock_ms(self) -> float:
        return self.clock_s() * 1000

    def world_time(self, clock_s: float) -> float:
        return (clock_s - self._offset_s) / self._rate

    @property
    def dead(self) -> bool:
        """What has just run may have ended it."""
        return not self.alive

    def post(self, handle: asyncio.Handle) -> None:
        """Run in the next turn."""
        if self.alive:
            self._ready.append(handle)
            if not self._scheduled:
                self._wake(self.world.now)

    def call(self, callback: Callable[..., object], *arguments: object) -> None:
        self.post(asyncio.Handle(callback, arguments, self.loop))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin a task of this process from outside. Nobody awaits it, so what it raises goes unhandled."""

        async def watched() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - whatever it is, the run has found it
                self.loop.call_exception_handler({"message": f"{name} failed", "exception": error})

        self.call(lambda: self.loop.create_task(watched(), name=name))

    def pause(self, seconds: float) -> None:
        """As of now, whatever comes meanwhile is found on waking: SIGSTOP, a long collection, a machine asleep."""
        self.paused_until = max(self.paused_until, self.world.now + seconds)

    def die(self) -> None:
        self.alive = False
        self._ready.clear()

    def _wake(self, at: float) -> None:
        self._scheduled = True
        self.world.at(at, self._turn)

    def _turn(self) -> None:
        if not self.alive:
            return
        if self.world.now < self.paused_until:
            self._wake(self.paused_until)
            return
        ready = self._ready
        asyncio._set_running_loop(self.loop)
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if self.dead:
                    return
        finally:
            asyncio._set_running_loop(None)
        self._scheduled = False
        if ready:
            self._wake(self.world.now + self._chance.random() * TURN_COST_S)
        if self.on_turn is not None:
            self.on_turn()


class SimLoop(asyncio.AbstractEventLoop):
    """What the code that serves uses of an event loop, and no more."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.signals: dict[int, Callable[[], object]] = {}

    def time(self) -> float:
        return self._process.clock_s()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._process.alive

    def is_closed(self) -> bool:
        return not self._process.alive

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._process.post(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        world = self._process.world
        world.at(max(self._process.world_time(when) + TIMER_SLACK_S, world.now), self._due, handle)
        return handle

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            self._process.post(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._process.world.keep(task)
        return task

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, *, ssl: None = None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        return await self._process.world.network.connect(self._process, protocol_factory, host, port)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        backlog: int = 100,
        ssl: None = None,
    ) -> object:
        return self._process.world.network.listen(self._process, protocol_factory, host, port)

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> None:
        self.signals[sig] = lambda: callback(*args)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._process.alive:
            self._process.world.unhandled(self._process, context)
