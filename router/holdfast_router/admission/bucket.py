"""A token bucket, one token an operation. Pure: time is brought by the caller, in seconds.

A section is admitted while the bucket has one token and takes what it needs, so that a large one is not starved by
small ones; what it overdraws is waited for by the next. So no more than ``rate`` is admitted in the long run, and no
more than ``burst`` and one section at once.
"""

from __future__ import annotations

from typing import Final

BOOKED_S_MAX: Final = 5.0
"""How much is kept in mind for those who were told to come again: with clients that never do as they are told, the
time that others are told grows no further."""
_WHOLE: Final = 1.0 - 1e-6
"""One token, within the errors of floating point."""


class TokenBucket:
    """``rate`` is positive, ``burst`` at least 1. Invariant: ``tokens`` is at most ``burst``."""

    __slots__ = ("_at", "_booked_until", "burst", "rate", "tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = burst
        self._at = now
        self._booked_until = now

    def resize(self, rate: float, burst: float, now: float) -> None:
        """What is there stays, as far as it fits."""
        self.refill(now)
        self.rate = rate
        self.burst = burst
        self.tokens = min(self.tokens, self.burst)

    def set(self, tokens: float, now: float) -> None:
        self.tokens = min(tokens, self.burst)
        self._at = now

    def refill(self, now: float) -> None:
        if now > self._at:
            self.tokens = min(self.tokens + (now - self._at) * self.rate, self.burst)
            self._at = now

    def take(self, operations: int, now: float) -> bool:
        """Whether so many operations are admitted; then they are paid for."""
        if now > self._at:
            self.refill(now)
        if self.tokens < _WHOLE:
            return False
        self.tokens -= operations
        return True

    def charge(self, operations: int, now: float) -> None:
        """For what is never refused. It overdraws by one burst at most."""
        self.refill(now)
        self.tokens = max(self.tokens - operations, min(self.tokens, -self.burst))

    def book(self, operations: int, now: float) -> float:
        """So many operations were refused: seconds until they are admitted, if everybody refused before them comes
        when told."""
        self.refill(now)
        free_at = now + max(1.0 - self.tokens, 0.0) / self.rate
        booked = max(self._booked_until, free_at)
        self._booked_until = min(booked + operations / self.rate, free_at + BOOKED_S_MAX)
        return booked - now

    def full_after_s(self, now: float) -> float:
        self.refill(now)
        return (self.burst - self.tokens) / self.rate
