"""What admission says of a section, and of how a tenant stands."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

from msgspec import Struct

from holdfast.wire.errors import Throttled

RATE = "rate"
IN_FLIGHT = "in_flight"
_WHAT = {RATE: "operations per second", IN_FLIGHT: "operations under way"}


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing of the section is done. ``quota`` is used up for now, ``limit`` is what the tenant has of it."""

    quota: str
    limit: int
    retry_after_s: float
    """When the section would be admitted if all that were refused before it come back as they were told."""

    @property
    def retry_after_ms(self) -> int:
        return max(ceil(self.retry_after_s * 1000), 1)

    def error(self) -> Throttled:
        text = f"the quota of {self.limit} {_WHAT[self.quota]} is used up: come again in {self.retry_after_ms} ms"
        return Throttled(text, self.retry_after_ms, self.quota, self.limit)


class Later(enum.Enum):
    """The verdict comes when Redis has answered: to be waited for."""

    LATER = enum.auto()


LATER: Final = Later.LATER
Verdict = Denied | None
"""None when the section is admitted."""
Decided = Callable[[Verdict], None]
"""Told once, after one round trip to Redis."""


class Standing(Struct, frozen=True):
    """For the ``RateLimit`` header fields: ``limit`` operations per second on average, ``burst`` at once. Of this
    router's share, or of the whole while Redis counts for all routers."""

    limit: float
    burst: int
    remaining: int
    """As far as this router knows."""
    reset_s: float
    """Until all of ``burst`` is there again, if nothing more is asked."""
