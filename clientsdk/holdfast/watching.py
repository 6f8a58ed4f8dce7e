"""The iterator over what is watched."""

from __future__ import annotations

import asyncio
from typing import Self

from holdfast.core.watch import Watch
from holdfast.info import LockInfo, lock_info
from holdfast.link import Link


class Watching:
    """What :meth:`Client.watch` returns: ``async for info in client.watch(...)``.

    It goes on until the client is closed, :meth:`aclose` is called, or nobody refers to it any more. A ``next`` that is
    cancelled, say by a timeout, loses nothing: the next one gets what it would have got.
    """

    def __init__(self, link: Link, target: str, *, prefix: bool) -> None:
        self._loop = link.loop
        self._watch = Watch(link.core, target, prefix=prefix)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LockInfo:
        changed = self._watch.changed
        if not changed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._watch.wait(waiter)
            await waiter
        if not changed:
            raise StopAsyncIteration
        return lock_info(changed.pop(next(iter(changed))))

    async def aclose(self) -> None:
        """Watch no longer; a pending ``next`` ends the iteration."""
        self._watch.end()

    def __del__(self) -> None:
        watch = getattr(self, "_watch", None)
        if watch is not None and watch.lives and not self._loop.is_closed():
            # Whoever drops the last reference may be any thread.
            self._loop.call_soon_threadsafe(watch.end)
