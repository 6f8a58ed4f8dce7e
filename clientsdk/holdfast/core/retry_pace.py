"""How soon a client sends again what was refused: a service in trouble is not asked more than one that is well.

A pace and no limit, other than a router's budget (``holdfast_router.resend_budget``): nothing is given up for it.
"""

from __future__ import annotations

from typing import Final

RETRIES_PER_SEND: Final = 0.1
"""In the long run one retry for ten sections."""
RETRIES_PER_S: Final = 10.0
"""And these in any case, for a client that sends little."""
RETRIES_SAVED_MAX: Final = 20.0


class RetryPace:
    """For what was refused and will be asked again; it waits. Not asked for what a used-up quota refused, for it comes
    when it was told to, nor for what was lost with a connection: whoever carried that has not been heard to be in
    trouble."""

    __slots__ = ("_at_ms", "_left")

    def __init__(self, now_ms: float) -> None:
        self._at_ms = now_ms
        self._left = RETRIES_SAVED_MAX

    def sent(self) -> None:
        """A section left for the first time."""
        self._left = min(self._left + RETRIES_PER_SEND, RETRIES_SAVED_MAX)

    def spend(self, now_ms: float) -> float:
        """One section is to be sent again: in so many milliseconds at the soonest."""
        elapsed_s = max(now_ms - self._at_ms, 0.0) / 1000
        self._at_ms = now_ms
        self._left = min(self._left + elapsed_s * RETRIES_PER_S, RETRIES_SAVED_MAX) - 1.0
        return max(-self._left, 0.0) * 1000 / RETRIES_PER_S
