"""The end of a turn of the event loop: what was put off to it is done, then connections send what they gathered.

One callback does it all. Were each a callback of its own, in turn, the loop would ask the system for news between them:
a system call each, and everybody's messages later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary


class TurnEnd:
    """Of one loop: get it by :func:`turn_end`. What fails is told to the loop, and the rest is done."""

    __slots__ = ("__weakref__", "_flushes", "_loop", "_scheduled", "_work")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._scheduled = False
        self._work: list[Callable[[], None]] = []
        self._flushes: list[Callable[[], None]] = []

    def put_off(self, work: Callable[[], None]) -> None:
        """Call it when all that has come in this turn was heard. Put off during such work it belongs to the next."""
        self._work.append(work)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end)

    def flush(self, flush: Callable[[], None]) -> None:
        """Call it after all work of this turn, also of the work's own."""
        self._flushes.append(flush)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        work, self._work = self._work[::-1], []
        flushes: list[Callable[[], None]] = []
        try:
            self._do(work)
            flushes, self._flushes = self._flushes[::-1], []
            self._do(flushes)
        finally:
            # Something is left when an interrupt came in between, or when work put off more.
            self._work[:0] = work[::-1]
            self._flushes[:0] = flushes[::-1]
            self._scheduled = bool(self._work or self._flushes)
            if self._scheduled:
                self._loop.call_soon(self._end)

    def _do(self, calls: list[Callable[[], None]]) -> None:
        """From the last on; what was begun is no longer in it."""
        while calls:
            call = calls.pop()
            try:
                call()
            except Exception as error:  # noqa: BLE001 - it would keep back what others have to send
                self._loop.call_exception_handler({"message": "the end of a turn failed", "exception": error})


_ENDS: Final[WeakValueDictionary[asyncio.AbstractEventLoop, TurnEnd]] = WeakValueDictionary()
"""Those that anybody holds: a loop that has ended is not kept."""


def turn_end() -> TurnEnd:
    """Of the running loop."""
    loop = asyncio.get_running_loop()
    found = _ENDS.get(loop)
    if found is None:
        found = _ENDS[loop] = TurnEnd(loop)
    return found
