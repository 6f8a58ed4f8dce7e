"""The clock of belief: it runs on through suspend, so that a machine asleep believes nothing too long."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def boottime_ms() -> float:
        """Milliseconds; CLOCK_BOOTTIME counts suspended time, which ``time.monotonic`` does not."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000.0

else:

    def boottime_ms() -> float:
        """Milliseconds; on macOS the monotonic clock runs on through suspend."""
        return time.monotonic() * 1000.0
