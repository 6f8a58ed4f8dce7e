"""Python's garbage collector, as a server wants it."""

from __future__ import annotations

import gc
import sys
from typing import Any, Final

THRESHOLDS: Final = (5_000, 5, 2_000)
"""Of the youngest objects a collection walks all, some 0.4 us for each that is garbage: 5,000 hold a server up for 2 ms
(50,000 did for 20). Those that lived through five collections are walked once more. The oldest, which may be millions,
are walked as seldom as can be."""

GROWTH_BLOCKS: Final = 250_000
"""Blocks of memory by which a server grows before what it has is kept from the collector; some 50,000 held locks."""


class _Growth:
    """What a server holds is let go of by itself, one row after the other, and a million held locks took a collection
    0.7 s to walk, on all replicas at once. So what has lived through a collection is frozen whenever much has come: it
    is freed as before, but for what dies in a cycle, as a connection may that was open at such a moment."""

    def __init__(self) -> None:
        self._blocks = sys.getallocatedblocks()

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """The collector's call. What is left after a collection of the two younger generations is old."""
        if phase != "stop" or info["generation"] == 0:
            return
        blocks = sys.getallocatedblocks()
        if blocks > self._blocks + GROWTH_BLOCKS:
            gc.freeze()
            self._blocks = blocks
        elif blocks < self._blocks:
            self._blocks = blocks


def settle_collector() -> None:
    """Once a server is up: what lives now lives long, and so does most of what comes to stay. Keep the collector from
    walking it, and from walking often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(_Growth())
