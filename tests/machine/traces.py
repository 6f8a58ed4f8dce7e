"""Random traces: few names, few clients, times near deadlines, and what arrives late or twice.

Each trace has a leaning of its own (swarm testing: Groce et al., ISSTA'12): some never see a session, some live under a
narrow allotment, some hardly anything but steals. All at once would seldom get far in any one direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from holdfast.wire.frames import Allotment, Kind, Mode, Options
from tests.machine.steps import (
    SESSIONS,
    WIDE,
    Again,
    Allot,
    Delete,
    Do,
    Elect,
    Export,
    Join,
    Look,
    Pass,
    Step,
    Stray,
    Swap,
)

REQUESTS = (b"r" * 16, b"q" * 16, b"short")
LOOKS = (Kind.GET, Kind.CHECK, Kind.LIST, Kind.HOLDS, Kind.TICKETS, Kind.SESSIONS)


@dataclass(frozen=True, slots=True)
class Leaning:
    kinds: list[Kind]
    modes: list[int]
    names: list[int]
    waits: list[int]
    ttls: list[int]
    passes: list[int]
    plain: float
    steals: float
    sloppy: float
    """How often something is not as it should be."""
    narrow: bool
    behalf: float
    """How often something is asked for on a session's behalf, or under a request id."""
    deleted: bool
    """Whether tenants may be deleted, and come back by late words of them."""


def trace(rng: Random, length: int) -> list[Step]:
    leaning = _leaning(rng)
    steps: list[Step] = [_allot(rng)] if leaning.narrow else []
    makers: list[Callable[[], Step]] = [lambda: _do(rng, leaning)] * 22 + [
        *[lambda: Pass(rng.choice(leaning.passes), rng.random() < 0.7)] * 5,
        *[lambda: Again(rng.choice([0, 0, 0, 1, 2, 5, 9]))] * 2,
        *[lambda: Look(rng.choice(LOOKS), rng.randrange(4), rng.randrange(4), _back(rng), rng.randrange(3))] * 2,
        lambda: _rare(rng, leaning),
    ]
    while len(steps) < length:
        steps += rng.choice(FRAGMENTS)(rng, leaning) if rng.random() < 0.05 else [rng.choice(makers)()]
    return steps


def _leaning(rng: Random) -> Leaning:
    letting_go = [Kind.RELEASE] * rng.choice([2, 5])
    taking = [Kind.FORCE] * rng.choice([0, 0, 1, 3])
    letting_go += [Kind.RENEW] * rng.choice([0, 0, 2])
    sessions = [Kind.OPEN] * rng.choice([0, 1, 2]) + [Kind.END] * rng.choice([0, 1, 2])
    rest = [Kind.KEEPALIVE] * rng.choice([0, 1, 3]) + [Kind.CANCEL] * rng.choice([0, 1, 2])
    modes = rng.choice(
        [[0], [0, 1], [0, 2], [2], [1, 2], [0, 3], [3, 3, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 1, 2, 3]]
    )
    return Leaning(
        kinds=[Kind.ACQUIRE] * 8 + letting_go + taking + sessions + rest,
        modes=modes,
        names=rng.choice([[0], [0, 0, 1], [0, 1, 2]]),
        waits=rng.choice([[0, 60_000], [0, 200, 700], [60_000], [200, 700, 60_000]]),
        ttls=rng.choice([[1000], [300, 1000], [100, 300], [100, 1000, 60_000], [60_000]]),
        passes=rng.choice([[1, 99, 100], [100, 200, 700], [100, 300, 1000], [1, 100, 60_000], [100, 1000, 600_000]]),
        plain=rng.choice([0.2, 0.5, 1.0]),
        steals=rng.choice([0.0, 0.1, 0.5]),
        sloppy=rng.choice([0.0, 0.05, 0.2]),
        narrow=rng.random() < 0.3,
        behalf=rng.choice([0.0, 0.0, 0.3]),
        deleted=rng.random() < 0.1,
    )


def _back(rng: Random) -> int:
    return rng.choice([0, 0, 0, 0, 1, 1, 2, 3])


def _do(rng: Random, leaning: Leaning) -> Do:
    kind = rng.choice(leaning.kinds)
    sloppy = rng.random() < leaning.sloppy
    ttls = [*leaning.ttls, 99] if sloppy else leaning.ttls
    options = _options(rng, leaning, kind, sloppy)
    if options is not None and options.mode == Mode.CACHE:
        ttls = [100, 300, 1000]
    return Do(
        kind=rng.choice([kind, kind, Kind.GET]) if sloppy else kind,
        who=rng.choice([0, 1, 2, 0, 1, 2, 3, 4]),
        name=rng.randrange(6) if sloppy else rng.choice(leaning.names),
        lease=0 if rng.random() < leaning.plain else rng.choice([1, 1, 2]),
        back=_back(rng),
        ttl=rng.choice(ttls),
        wait=-1 if sloppy and rng.random() < 0.1 else rng.choice(leaning.waits),
        options=options,
        unanswered=_back(rng),
        late=rng.random() < 0.06,
        closes=rng.random() < 0.75,
    )


def _options(rng: Random, leaning: Leaning, kind: Kind, sloppy: bool) -> Options | None:
    reason = "r" * 257 if sloppy and rng.random() < 0.2 else rng.choice(["", "deploy"])
    if kind in (Kind.FORCE, Kind.END):
        session = b"" if kind == Kind.FORCE or rng.random() < 0.4 else rng.choice(SESSIONS[:3])
        return Options(session=session, now=rng.random() < 0.5, reason=reason)
    if kind in (Kind.RENEW, Kind.KEEPALIVE):
        return Options(session=rng.choice(SESSIONS)) if rng.random() < 0.4 else None
    if kind == Kind.OPEN and sloppy:
        return Options(session=rng.choice(SESSIONS), metadata=b"m" * rng.choice([4, 1024, 1025]))
    mode = rng.choice(leaning.modes)
    if kind != Kind.ACQUIRE or (mode == Mode.EXCLUSIVE and rng.random() < 0.3):
        return None
    return Options(
        mode=mode if not sloppy else rng.choice([mode, 4, -1]),
        permits=rng.choice([1, 1, 2, 3]),
        capacity=3 if rng.random() < 0.9 else rng.choice([2, 4, 1_000_001]),
        metadata=rng.choice([b"", b"host-1"]) if not sloppy else b"m" * 1025,
        lock_delay_ms=rng.choice([0, 0, 150]) if mode != Mode.CACHE or sloppy else 0,
        reentrant=mode != Mode.CACHE and rng.random() < 0.3,
        steal=mode != Mode.CACHE and rng.random() < leaning.steals,
        now=rng.random() < 0.4,
        reason=reason,
        session=rng.choice(SESSIONS) if rng.random() < leaning.behalf else b"",
        request=rng.choice(REQUESTS) if mode != Mode.CACHE and rng.random() < leaning.behalf else b"",
    )


def _allot(rng: Random) -> Allot:
    return Allot(
        rng.choice([1, 1, 2]), rng.choice([1, 2, 3, 100]), rng.choice([1, 2, 100]), rng.choice([1, 2, 100]),
        rng.random() < 0.8, rng.choice([WIDE, WIDE, (rng.choice([0, 1, 2]), 300, 3), (2, 2000, 4)]),
    )  # fmt: skip


def _stray(rng: Random) -> Stray:
    allotment = Allotment(rng.choice([0, 1, 2]), 1 << 40, 0, 0, 0) if rng.random() < 0.5 else None
    kind = rng.choice([Kind.ACQUIRE, Kind.ALLOT])
    if rng.random() < 0.7:
        return Stray(kind, rng.choice([1, 2, -1]), rng.choice([None, 0, 3]), allotment)
    # The service itself may say one thing alone, a good allotment, and that has a step of its own.
    return Stray(Kind.ACQUIRE, 0, None, allotment)


def _rare(rng: Random, leaning: Leaning) -> Step:
    rare: list[Step] = [
        Elect(rng.random() < 0.4), Elect(), Swap(), Export(rng.choice([1, 100, 1000, 4000])),
        Join(rng.choice([1, 2, 3])), _allot(rng) if leaning.narrow else Swap(), _stray(rng), _stray(rng),
    ]  # fmt: skip
    if leaning.deleted:
        rare += [Delete(rng.choice([1, 2, 2])), Delete(2), Pass(600_000), Pass(600_000)]
    return rng.choice(rare)


# Fragments: what takes several steps in a row of one client, which chance alone seldom gives.


def _early_cancel(rng: Random, leaning: Leaning) -> list[Step]:
    """A cancel that overtakes its acquire."""
    who, name, lease = rng.randrange(4), rng.choice(leaning.names), rng.choice([0, 0, 1])
    acquire = Do(Kind.ACQUIRE, who, name, lease, wait=rng.choice(leaning.waits), late=True, unanswered=1)
    cancel = Do(Kind.CANCEL, who, name, lease, unanswered=rng.choice([1, 1, 2, 0]))
    return [acquire, cancel, Again(rng.choice([1, 1, 0]))]


def _reentry(rng: Random, leaning: Leaning) -> list[Step]:
    """A session takes one name twice and lets go of it once or twice."""
    who, name = rng.randrange(4), rng.choice(leaning.names)
    opening = Do(Kind.OPEN, who, back=rng.randrange(3), ttl=rng.choice(leaning.ttls))
    acquire = Do(Kind.ACQUIRE, who, name, 1, options=Options(reentrant=True), unanswered=rng.choice([0, 3]))
    letting_go = Do(rng.choice([Kind.RELEASE, Kind.CANCEL]), who, name, 1, unanswered=rng.choice([0, 4]))
    again: Step = letting_go if rng.random() < 0.5 else Again(0)
    return [opening, acquire, acquire, letting_go, again]


def _robbed_session(rng: Random, leaning: Leaning) -> list[Step]:
    """A session that goes on living while one of its names is taken away."""
    who, name, ttl = rng.randrange(3), rng.choice(leaning.names), rng.choice(leaning.ttls)
    theft = Do(Kind.ACQUIRE, who + 1, name, wait=60_000, ttl=60_000, options=Options(steal=True))
    taking = rng.choice(
        [theft, Do(Kind.FORCE, who + 1, name), Do(Kind.END, who + 1, options=Options(session=SESSIONS[0]))]
    )
    alive: list[Step] = [Pass(ttl // 2), Do(Kind.KEEPALIVE, who, lease=1, ttl=ttl), Pass(ttl // 2), Pass(ttl // 2)]
    return [Do(Kind.OPEN, who, ttl=ttl), Do(Kind.ACQUIRE, who, name, 1), taking, *alive]


FRAGMENTS = (_early_cancel, _reentry, _robbed_session)
