"""Python's garbage collector, as a server wants it."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (5_000, 20, 500)
"""Of the youngest objects a collection walks all, some 0.4 us for each that is garbage: 5,000 hold a server up for 2 ms
(50,000 did for 20). The oldest, which may be millions, are walked as seldom as can be."""


def settle_collector() -> None:
    """Once a server is up: what lives now lives long. Keep the collector from walking it, and from walking often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
