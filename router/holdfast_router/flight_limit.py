"""How many operations may be under way to a group at once, learned from how long its frames take (docs/adr/0006).

The rule is that of Swift (Kumar et al., SIGCOMM 2020): additive increase while a flight takes no longer than a target
delay, multiplicative decrease in proportion to what it takes longer, at most once per flight. The target is a multiple
of what a flight takes with little under way. That is measured whenever little is, and when this never happens by
letting the pipe run low for one flight (as BBR does), for an estimate taken under load would rise with the load.
"""

from __future__ import annotations

from math import inf
from typing import Final

from holdfast.wire.limits import OPERATIONS_PER_FRAME_MAX

from .item import Launch

FRAMES_IN_FLIGHT_MAX: Final = 4
LIMIT_MIN: Final = 512
"""Fewer at once would cost a group more CPU per operation than waiting costs time."""
LIMIT_START: Final = 2_048
LIMIT_MAX: Final = FRAMES_IN_FLIGHT_MAX * OPERATIONS_PER_FRAME_MAX
LITTLE: Final = 64
"""Operations under way with which a flight takes what it takes at least."""
MANY: Final = LIMIT_MIN // 2
"""Operations under way with which a group shows how many it gets done."""
INCREASE: Final = 128
"""Operations by which the limit grows per limit's worth of answers."""
DECREASE: Final = 0.8
LOWEST_CUT: Final = 0.5
"""A single decrease leaves at least this part."""
TARGET_S_MIN: Final = 0.025
"""Batches that take less are too small to be cheap."""
TARGET_BASES: Final = 3.0
BASE_WINDOW_S: Final = 10.0
SMOOTHING: Final = 1 / 8


class FlightLimit:
    def __init__(self) -> None:
        self.limit = float(LIMIT_START)
        self.under_way = 0
        """Operations in flight now."""
        self.flight_s = 0.005
        """Smoothed time of a flight."""
        self.rate = inf
        """Operations a second that the group gets done when more waits than may leave; inf until that was seen with
        many under way: what four small frames get done in a stall says nothing of full ones."""
        self._base_s = inf
        """Least time of a flight with little under way, in this window and in the last that had one."""
        self._base_before_s = inf
        self._window_ends = -inf
        self._probing_since = inf
        self._lowered_at = -inf

    def room(self, waiting: int) -> int:
        """Operations that the next frame may have, of ``waiting``; the section that reaches it may go beyond it.

        At most half of the limit, so that one frame is on its way while another is worked on; and 0 rather than a
        little, for small frames would make room for small frames for ever (silly windows, RFC 813).
        """
        allowed = LITTLE if self._probing_since < inf else int(self.limit)
        room = allowed - self.under_way
        if self.under_way and room < min(waiting, allowed // FRAMES_IN_FLIGHT_MAX):
            return 0
        return max(min(room, allowed // 2), 0)

    def left(self, operations: int, now: float) -> Launch:
        self.under_way += operations
        return Launch(now, operations, self.under_way)

    def back(self, launch: Launch) -> None:
        """It came to nothing, and says nothing of how long things take."""
        self.under_way -= launch.operations

    def answered(self, launch: Launch, now: float, *, backlog: bool) -> None:
        """``backlog``: whether more was waiting than could leave."""
        self.under_way -= launch.operations
        took_s = max(now - launch.at, 0.0)
        self.flight_s += (took_s - self.flight_s) * SMOOTHING
        if backlog and took_s and launch.under_way >= MANY:
            rate = launch.under_way / took_s
            self.rate = rate if self.rate == inf else self.rate + (rate - self.rate) * SMOOTHING
        self._measure(launch, took_s, now)
        target_s = self.target_s
        if took_s <= target_s:
            if launch.under_way * 2 >= self.limit:
                self._set(self.limit + INCREASE * launch.operations / self.limit)
        elif launch.at >= self._lowered_at:
            self._lower(1 - DECREASE * (took_s - target_s) / took_s, now)

    def rest(self) -> None:
        """Nothing waits and nothing is under way: how slow the group was when it was full may be long ago."""
        self.rate = inf

    def overloaded(self, now: float) -> None:
        """The group said so itself."""
        self._lower(LOWEST_CUT, now)

    @property
    def target_s(self) -> float:
        base_s = min(self._base_s, self._base_before_s)
        return TARGET_S_MIN if base_s == inf else max(TARGET_S_MIN, TARGET_BASES * base_s)

    def _measure(self, launch: Launch, took_s: float, now: float) -> None:
        if now >= self._window_ends:
            if self._base_s < inf:
                self._base_before_s, self._base_s = self._base_s, inf
            elif self._window_ends > -inf:
                self._probing_since = min(self._probing_since, now)
            self._window_ends = now + BASE_WINDOW_S
        alone = launch.under_way == launch.operations and launch.at >= self._probing_since
        if launch.under_way <= LITTLE or alone:
            self._base_s = min(self._base_s, took_s)
            self._probing_since = inf

    def _lower(self, factor: float, now: float) -> None:
        self._set(self.limit * max(factor, LOWEST_CUT))
        self._lowered_at = now

    def _set(self, limit: float) -> None:
        self.limit = min(max(limit, float(LIMIT_MIN)), float(LIMIT_MAX))
