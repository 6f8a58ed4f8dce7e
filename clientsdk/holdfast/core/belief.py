"""How long a holder may believe (``docs/design.md``, 5). Milliseconds of a clock that runs through suspend."""

from __future__ import annotations

from typing import Final

DRIFT: Final = 0.01
"""Share of a deadline that is given up: more than twice the 0.4 % by which the clocks of both sides may be off."""
ROUNDING_MS: Final = 2.0
"""The group clock is whole milliseconds, rounded down, on both ends of an interval."""

RENEWALS_PER_TTL: Final = 3
SESSION_RENEWAL_MS_MAX: Final = 20_000.0
"""A group remembers for 60 s what a session lost: a part asks three times in that time, whatever its TTL."""


def believed_until(first_sent_ms: float, deadline_ms: int) -> float:
    """When to stop believing a lease whose deadline was told as ``deadline_ms`` after the reading of an operation.

    ``first_sent_ms`` is a moment before the *first* copy of that operation left: whichever copy was applied, its
    reading came later, and the group clock is never fast, so that this ends before another can be granted.
    """
    return first_sent_ms + deadline_ms * (1.0 - DRIFT) - ROUNDING_MS


def renewal_due(first_sent_ms: float, given_ms: float) -> float:
    """When to send the next keepalive of a lease that was last renewed by what left at ``first_sent_ms``."""
    return first_sent_ms + given_ms / RENEWALS_PER_TTL
