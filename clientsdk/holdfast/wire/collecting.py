"""Python's garbage collector, as a server wants it."""

from __future__ import annotations

import gc


def settle_collector() -> None:
    """Once a server is up: what lives now lives long. Keep the collector from walking it, and from walking often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
