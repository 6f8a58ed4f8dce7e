"""What a lock object can be in the middle of."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    IDLE = 0
    ASKED = 1
    WAITING = 2
    HELD = 3
    RELEASING = 4
    LOST = 5
