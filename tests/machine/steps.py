"""Steps of a trace: they say little, and the world makes operations of them (``lockstep``)."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.wire.frames import Allotment, Kind, Options
from holdfast.wire.limits import METADATA_BYTES_MAX, TTL_MS_MAX, WAITERS_PER_LOCK_MAX

NAMES = ("a", "b", "{a}c", "\x07", "elsewhere", "")
"""The fourth is no name, the fifth one's slot is another group's, and the last has none."""
SESSIONS = (b"s" * 16, b"t" * 16, b"u" * 16, b"short")
TENANTS = (1, 1, 1, 2)
"""Of the clients that a trace begins with."""
WIDE = (WAITERS_PER_LOCK_MAX, TTL_MS_MAX, METADATA_BYTES_MAX)
"""Limits of an allotment that limits nothing."""


@dataclass(frozen=True, slots=True)
class Do:
    """One operation. ``back`` counts back: in the tokens of the name, the leases of the client, or its seqs."""

    kind: Kind
    who: int = 0
    name: int = 0
    lease: int = 0
    """0: a lease of its own; else one of the client's sessions."""
    back: int = 0
    ttl: int = 1000
    wait: int = 0
    options: Options | None = None
    unanswered: int = 0
    """How many of its earlier operations the client still knows no answer of."""
    late: bool = False
    """It stays under way until an :class:`Again` delivers it."""
    closes: bool = True
    """Whether the entry is closed behind it."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes, and with ``noticed`` an entry says so."""

    ms: int
    noticed: bool = True


@dataclass(frozen=True, slots=True)
class Again:
    """A section of before arrives, again or for the first time."""

    back: int


@dataclass(frozen=True, slots=True)
class Elect:
    """A new leader; ``straggler``: an entry of the old one is still proposed to it."""

    straggler: bool = False


@dataclass(frozen=True, slots=True)
class Allot:
    tenant: int
    held: int
    waiters: int
    sessions: int
    newer: bool = True
    limits: tuple[int, int, int] = WIDE
    """Waiters per lock, longest TTL, bytes of metadata."""


@dataclass(frozen=True, slots=True)
class Delete:
    """The tenant was deleted, and the group is told so."""

    tenant: int


@dataclass(frozen=True, slots=True)
class Join:
    tenant: int


@dataclass(frozen=True, slots=True)
class Look:
    kind: Kind
    who: int = 0
    name: int = 0
    back: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    """The machine is replaced by one that was restored from its snapshot."""


@dataclass(frozen=True, slots=True)
class Export:
    """A snapshot is begun; from here on ``pace`` chunks of it are taken after each entry."""

    pace: int = 1


@dataclass(frozen=True, slots=True)
class Stray:
    """A section that is not a client's: ``tenant``'s, under the number of a caller or none, with one operation."""

    kind: Kind
    tenant: int
    who: int | None = None
    allotment: Allotment | None = None


Step = Do | Pass | Again | Elect | Allot | Delete | Join | Look | Swap | Export | Stray
