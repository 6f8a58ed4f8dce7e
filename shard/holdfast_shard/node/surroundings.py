"""What a node takes from the machine it runs on; a simulator brings its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..consensus.disk import Disk


@dataclass(frozen=True, slots=True)
class Surroundings:
    disk: Disk
    """The data directory."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds; what timeouts are measured with."""
    stopwatch: Callable[[], float] = time.perf_counter
    """Seconds; what leases are measured with. Its rate may be off by the stated drift and no more."""
    rng: random.Random = field(default_factory=random.Random)
    """Spreads elections; nothing secret."""
