"""Stops a command before the lease it runs under can end.

TERM when less than a margin is left and nothing has renewed the lease, KILL when half of that is left. The guardian
holds a later deadline of its own, so that a command is also stopped when this process cannot run (stopped, swapped
out): nobody runs under a lease that may have passed on.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

from holdfast.clock import boottime_ms
from holdfast.cluster import Guardian

from .foreground import Foreground

MARGIN_S = 1.0
MARGIN_OF_TTL = 0.2
MARGIN_OF_TTL_MAX = 0.5
"""For short leases: at least half of it is the command's."""
KILL_AT = 0.5
GUARDIAN_AT = 0.25
"""Fractions of the margin that are left when the command is killed: by us, by the guardian."""


def margin_s(ttl_s: float) -> float:
    """How much of the lease is left when a command under it is asked to end."""
    return min(max(MARGIN_S, MARGIN_OF_TTL * ttl_s), MARGIN_OF_TTL_MAX * ttl_s)


class LeaseWatch:
    """``remaining``: seconds for which the lease is believed in, 0 once it is known to be lost.

    ``lost`` is done when the service has taken the lock away; what was believed until then is still ours to end by.
    """

    def __init__(
        self,
        ttl_s: float,
        remaining: Callable[[], float],
        lost: asyncio.Future[Any],
        guardian: Guardian,
    ) -> None:
        self._margin_s = margin_s(ttl_s)
        self._remaining = remaining
        self._lost = lost
        self._guardian = guardian
        self._believed_until = 0.0
        self._look()

    async def run(self, command: Foreground) -> tuple[int, bool]:
        """The command's exit code, and whether it was stopped because of the lease."""
        self._look()
        if self._left(1.0) <= 0 or self._lost.done():
            # Stopped, perhaps, between the grant and now: nothing may begin under a lease that is over.
            return 0, True
        running = asyncio.ensure_future(command.run())
        try:
            if await self._ended_in_time(running):
                return running.result(), False
            command.doomed()
            command.signal(signal.SIGTERM)
            await asyncio.wait({running}, timeout=self._left(KILL_AT))
            command.signal(signal.SIGKILL)
            return await running, True
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def _ended_in_time(self, running: asyncio.Future[int]) -> bool:
        waiting_for: set[asyncio.Future[Any]] = {self._lost, running}
        while not running.done():
            self._look()
            left_s = self._left(1.0)
            if left_s <= 0 or self._lost.done():
                return False
            await asyncio.wait(waiting_for, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        return True

    def _look(self) -> None:
        until = boottime_ms() / 1000 + self._remaining()
        if until > self._believed_until:
            self._believed_until = until
            self._guardian.deadline(until - self._margin_s * GUARDIAN_AT)

    def _left(self, margin: float) -> float:
        return max(0.0, self._believed_until - self._margin_s * margin - boottime_ms() / 1000)
