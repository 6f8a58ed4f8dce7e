"""How many users there are, and when."""

from __future__ import annotations

from typing import Final

import msgspec

STEPS: Final = 10
STEP_S_MIN: Final = 4.0
"""So that something is left when its beginning is left out."""
SPIKE_BASE: Final = 0.1
"""Part of the users that are there before and after a spike."""
RAMP_S: Final = 1.0
"""In which the users of a stage come."""


class Stage(msgspec.Struct, frozen=True):
    """So many users until that many seconds after the beginning."""

    until_s: float
    users: int


def steps(users: int, seconds: float, count: int = STEPS) -> tuple[Stage, ...]:
    """Equal steps up; fewer when there are fewer users than steps, or no time for so many."""
    count = max(min(count, users, int(seconds / STEP_S_MIN)), 1)
    return tuple(Stage(seconds * step / count, users * step // count) for step in range(1, count + 1))


def spike(users: int, seconds: float) -> tuple[Stage, ...]:
    """All at once for a fifth of the time, after two fifths with a tenth of the users and before two more."""
    base = max(int(users * SPIKE_BASE), 1)
    return Stage(seconds * 0.4, base), Stage(seconds * 0.6, users), Stage(seconds, base)


def soak(users: int, seconds: float) -> tuple[Stage, ...]:
    """The same load all the time."""
    return (Stage(seconds, users),)


def stage_at(stages: tuple[Stage, ...], at_s: float) -> Stage | None:
    """None when it is over."""
    return next((stage for stage in stages if at_s < stage.until_s), None)


class Turn(msgspec.Struct, frozen=True):
    """When the number of users was changed, and to what."""

    at_s: float
    """Unix time."""
    users: int
