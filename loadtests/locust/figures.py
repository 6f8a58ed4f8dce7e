"""The figures of one run, as they are kept in ``figures.json``."""

from __future__ import annotations

import msgspec

from .plans import Turn
from .timeline import Row


class Used(msgspec.Struct, frozen=True):
    """Processor time of one process within one second before ``at_s`` (Unix time), in parts of a core."""

    at_s: float
    process: str
    cores: float


class Figures(msgspec.Struct):
    scenario: str
    through: str
    shape: str
    rows: list[Row]
    turns: list[Turn]
    users: list[Turn]
    """How many there were, looked at every period."""
    ended_s: float
    """Unix time at which users were told to stop."""
    period_s: int = 1
    """How long one row is."""
    used: list[Used] = []
    machine: dict[str, object] = {}
    commit: str = ""
