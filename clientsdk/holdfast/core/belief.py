"""How long a holder may believe (``docs/design.md``, 5). Milliseconds of a clock that runs through suspend."""

from __future__ import annotations

from typing import Final

DRIFT: Final = 0.01
"""Share of a deadline that is given up: more than twice the 0.4 % by which the clocks of both sides may be off."""
ROUNDING_MS: Final = 2.0
"""The group clock is whole milliseconds, rounded down, on both ends of an interval."""

RENEWALS_PER_TTL: Final = 3
RENEWALS_TOGETHER: Final = 32
"""Keepalives wait for each other up to this part of the time between two of a lease: what leaves together costs a
service with 100,000 sessions half of what it costs in small pieces (loadtests/RESULTS.md)."""
_GOLDEN: Final = 0.618
"""Spreads numbers that follow on each other over a unit."""
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


def renewed_together(first_sent_ms: float, due_ms: float, client: int) -> float:
    """When to send, with others of the process, a keepalive that is due at ``due_ms``, of a lease that was last renewed
    by what left at ``first_sent_ms``: never before, and at most a 32nd of that time later. Processes (by their numbers)
    have moments of their own, not to come all at once."""
    bits = int((due_ms - first_sent_ms) / RENEWALS_TOGETHER).bit_length() - 1
    if bits < 0:
        return due_ms
    # Powers of two: moments of long leases are moments of short ones, too.
    grain_ms = 1 << bits
    phase_ms = client * _GOLDEN % 1 * grain_ms
    return due_ms + (phase_ms - due_ms) % grain_ms
