"""The world of one run: time, chance, processes and what is counted. One seed decides everything in it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.simulation.loop import Process
from tests.simulation.network import Network

BUSY_S = 1.0
BUSY_EVENTS_MAX = 40_000
"""In so much time; a busy run has some ten thousand, a process that goes round and round many more."""


class Violation(AssertionError):
    """A promise was broken. ``rule`` names it."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        """Seconds of real time since the run began."""
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = None
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = itertools.count()
        self._kept: list[asyncio.Task[Any]] = []
        self.wall_offset_s = 1.7e9
        self.violation: Violation | None = None
        self.network = Network(self)

    def stream(self, purpose: str) -> random.Random:
        """A source of chance of its own for each purpose: what one draws does not change what others get."""
        return random.Random(f"{self.seed}/{purpose}")

    def at(self, when: float, call: Callable[..., object], *arguments: object) -> None:
        heapq.heappush(self._events, (when, next(self._number), call, arguments))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass; ends early, with True, once ``done``."""
        events = self._events
        since, events_since = self.now, 0
        while events and events[0][0] <= until:
            if done is not None and done():
                return True
            when, _, call, arguments = heapq.heappop(events)
            if when > since + BUSY_S:
                since, events_since = when, 0
            events_since += 1
            if events_since > BUSY_EVENTS_MAX:
                raise Violation("nothing goes round and round", f"{events_since} events since {since:.3f}")
            self.now = max(self.now, when)
            call(*arguments)
            if self.violation is not None:
                raise self.violation
        self.now = max(self.now, until)
        return done is not None and done()

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:12.6f} {text}")

    def count(self, what: str, times: int = 1) -> None:
        self.counts[what] += times

    def violate(self, violation: Violation) -> None:
        """Ends the run, whatever the code that is running now makes of exceptions."""
        if self.violation is None:
            self.violation = violation

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Until the run is over: what a dead process leaves behind must not be collected while others run."""
        self._kept.append(task)

    def dispose(self) -> None:
        """Close what the run left unfinished; some of it would rather go on."""
        for task in self._kept:
            with contextlib.suppress(RuntimeError):
                if not task.done():
                    task.get_coro().close()
        self._kept.clear()
        self._events.clear()

    def unretrieved(self) -> Iterator[str]:
        """Tasks that failed and that nobody has asked."""
        for task in self._kept:
            if task.done() and not task.cancelled() and getattr(task, "_log_traceback", False):
                error = task.exception()
                if isinstance(error, Exception):  # others end a process, as they are meant to
                    yield f"{task.get_name()}: {error!r}"

    def unhandled(self, process: Process, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = f"{process.name}: {context.get('message')}: {error!r}"
        violation = Violation("nothing goes unhandled", text)
        violation.__cause__ = error
        self.violate(violation)
