"""Python's garbage collector, as a server wants it."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any, Final

THRESHOLDS: Final = (5_000, 5, 2_000)
"""Of the youngest objects a collection walks all, some 0.4 us for each that is garbage: 5,000 hold a server up for 2 ms
(50,000 did for 20). Those that lived through five collections are walked once more. The oldest, which may be millions,
are walked as seldom as can be."""

GROWTH_BLOCKS: Final = 100_000
"""Blocks of memory by which a server grows before what it has is kept from the collector; some 20,000 held locks, which
take it some 10 ms to walk once."""


class _Growth:
    """What a server holds is let go of by itself, one row after the other, and a million held locks took a collection
    0.7 s to walk, on all replicas at once. So whenever much has come it is walked once and then frozen: it is freed as
    before, but for what dies in a cycle, as a connection may that was open at such a moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._blocks = sys.getallocatedblocks()
        self._due = False

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """The collector's call."""
        if phase != "stop" or info["generation"] == 0 or self._due or self._loop.is_closed():
            return
        blocks = sys.getallocatedblocks()
        if blocks > self._blocks + GROWTH_BLOCKS:
            self._due = True
            # Not here: the collector cannot be called from its own call.
            self._loop.call_soon_threadsafe(self._keep)
        elif blocks < self._blocks:
            self._blocks = blocks

    def _keep(self) -> None:
        # What is garbage and old would be frozen with the rest, and never be freed.
        gc.collect()
        gc.freeze()
        self._blocks = sys.getallocatedblocks()
        self._due = False


def settle_collector() -> None:
    """Once a server is up, on its loop: what lives now lives long, and so does most of what comes to stay. Keep the
    collector from walking it, and from walking often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(_Growth(asyncio.get_running_loop()))
