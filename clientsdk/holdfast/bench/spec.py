"""What to measure, and what a load process says it saw."""

from __future__ import annotations

import enum

import msgspec


class Mode(enum.StrEnum):
    CYCLE = "cycle"
    """Each worker acquires and releases names of its own, a new one each time."""
    CONTENDED = "contended"
    """All workers acquire and release one name."""


class Spec(msgspec.Struct, frozen=True):
    """``concurrency`` workers, each with one lock at a time, spread over ``processes`` with one connection each."""

    mode: Mode = Mode.CYCLE
    seconds: float = 5.0
    concurrency: int = 256
    processes: int = 1

    def validate(self) -> None:
        """Raises ``ValueError`` naming the rule and the value."""
        if not 0.1 <= self.seconds <= 3600:
            raise ValueError(f"seconds is 0.1 to 3600, not {self.seconds:g}")
        if not 1 <= self.concurrency <= 100_000:
            raise ValueError(f"concurrency is 1 to 100000, not {self.concurrency}")
        if not 1 <= self.processes <= self.concurrency:
            raise ValueError(f"processes is 1 to the concurrency ({self.concurrency}), not {self.processes}")


class Part(msgspec.Struct, frozen=True):
    """The share of one load process. ``stamp`` is a file that all of them map: when the name was last let go."""

    url: str
    api_key: str
    mode: Mode
    run: str
    first_worker: int
    workers: int
    stamp: str


class Window(msgspec.Struct, frozen=True):
    """From when to when cycles count, in seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    since: float
    until: float


class Seen(msgspec.Struct):
    """Of the cycles that ended within the window; times in seconds, each list sorted."""

    acquires: list[float]
    cycles: list[float]
    handoffs: list[float]
    errors: dict[str, int]
