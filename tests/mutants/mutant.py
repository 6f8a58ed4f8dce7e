"""What a seeded bug is, and what may catch it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Apply = Callable[[pytest.MonkeyPatch], None]


class Promise(enum.StrEnum):
    """What the service as a whole promises. The rows of the engine's audit are promises too, by their own names."""

    ONE_HOLDER = "one exclusive holder at a time, by the clients' own belief"
    SHARING = "holders share only what their modes and the capacity allow"
    TOKENS_RISE = "tokens rise, and none is given twice"
    KEPT = "what was acknowledged is never undone"
    FULL_TIME = "no lease ends before its time"
    IN_ORDER = "first come, first served"
    IN_TURN = "no tenant keeps another waiting"
    ALIKE = "replicas that have applied the same are alike"
    REJECTED = "what was rejected for certain never took effect"
    ONCE = "an operation happens once, however often it arrives"
    ANSWERED = "whatever is asked comes to an end"
    TOLD = "whoever loses a lock learns of it before it believes any longer"
    TOLD_OF_CHANGES = "who watches comes to see how it looks at last"
    NOTHING_LEFT = "what nobody wants any more is let go"
    COUNTED = "counts are exact, and limits and bounds hold"
    FRESH_READS = "a read sees everything that was acknowledged before it was asked"
    APART = "tenants and groups never meet"
    DURABLE = "what was synced is found again, and nothing is made up"
    WHOLE_SNAPSHOTS = "a snapshot counts when it is whole, or not at all"
    ELECTED = "one leader in a term, and one that has all that was committed"


@dataclass(frozen=True, slots=True)
class Selection:
    """Tests: files, folders or node ids, run in a process of their own in this order.

    With ``children`` the bug is seeded in every process that those tests start, too.
    """

    tests: tuple[str, ...]
    children: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """What must pass without any mutant, for a failure with one to mean something."""
        return tuple(dict.fromkeys(test.partition("::")[0] for test in self.tests))


@dataclass(frozen=True, slots=True)
class Simulation:
    """The deterministic simulator of the whole system, over seeds from 0 on until one shows a violation."""

    seeds_max: int = 30


Catcher = Selection | Simulation


@dataclass(frozen=True, slots=True)
class Mutant:
    """``breaks`` is a :class:`Promise`, or the name of a row of the engine's audit. Catchers are asked in order."""

    name: str
    breaks: str
    apply: Apply
    caught_by: tuple[Catcher, ...]


def patch(owner: Any, name: str, replacement: Any) -> Apply:
    """Replace one attribute; what is not there cannot be replaced, and raises AttributeError when applied."""

    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, replacement)

    return apply


def patches(*parts: Apply) -> Apply:
    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        for part in parts:
            part(monkeypatch)

    return apply
