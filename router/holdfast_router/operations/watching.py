"""Watching for callers of the fronts: one watch of the router's own client for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.arguments import prefix_of
from holdfast.core.client import ClientCore
from holdfast.core.watch import Watch as CoreWatch
from holdfast.errors import InvalidArgument
from holdfast.wire.names import check_name
from holdfast.wire.tenants import KeyRole

from .callers import Caller
from .requests import LockState, Watch
from .views import lock_state


def begin(core: ClientCore, caller: Caller, asked: Watch) -> CoreWatch:
    """Raises ``InvalidArgument``, ``InvalidName``, ``Forbidden``."""
    if (asked.name is None) == (asked.prefix is None):
        raise InvalidArgument("a watch is of a name or of a prefix: pass one of them")
    target = asked.name if asked.name is not None else prefix_of(asked.prefix or "")
    caller.need(KeyRole.READ, target)
    if asked.name is not None:
        check_name(target)
    core.check_open()
    return CoreWatch(core, target, prefix=asked.prefix is not None, patient=False)


class Shown:
    """How the names look, now and after every change; several in quick succession may be shown as one. Without an end:
    to be closed by whom it was made for. No generator, for one that nobody has begun to iterate cannot be closed.

    Raises what ended the watch: ``Forbidden``, ``Overloaded`` when the tenant has as many as it may."""

    def __init__(self, watch: CoreWatch, told: Callable[[], None]) -> None:
        self._watch = watch
        self._told = told

    def __aiter__(self) -> Shown:
        return self

    async def __anext__(self) -> LockState:
        watch = self._watch
        if not watch.changed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            watch.wait(waiter)
            await waiter
        if not watch.changed:
            raise StopAsyncIteration  # it was closed meanwhile
        self._told()
        return lock_state(watch.changed.pop(next(iter(watch.changed))))

    async def aclose(self) -> None:
        self._watch.end()
