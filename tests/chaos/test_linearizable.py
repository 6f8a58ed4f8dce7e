"""The search beside one that is too simple to be wrong: Wing and Gong's, which tries every order and remembers none."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from .events import Mode
from .linearizable import Grant, Read, fault_in

CAPACITY = 2
MOMENTS = st.integers(0, 12).map(float)


@dataclass(frozen=True, slots=True)
class _Point:
    """An operation that takes effect at one moment within [least, most]."""

    least: float
    most: float
    token: int = 0
    begins: bool = False
    read: Read | None = None


def _points(grants: list[Grant], reads: list[Read]) -> Iterator[_Point]:
    for grant in grants:
        yield _Point(grant.began_min, grant.began_max, grant.token, True)
        yield _Point(grant.ended_min, grant.ended_max, grant.token)
    for read in reads:
        yield _Point(read.began, read.ended, read=read)


def _possible(left: list[_Point], alive: frozenset[int], begun: int, grants: dict[int, Grant]) -> bool:
    """Whether some order of what is left fits, no one before another that was over before it began."""
    if all(point.most == inf for point in left):
        return True
    soonest = min(point.most for point in left)
    for point in left:
        if point.least <= soonest:
            after = _after(point, alive, begun, grants)
            if after is not None and _possible([other for other in left if other is not point], *after, grants):
                return True
    return False


def _after(
    point: _Point, alive: frozenset[int], begun: int, grants: dict[int, Grant]
) -> tuple[frozenset[int], int] | None:
    if point.read is not None:
        return (alive, begun) if point.read.fits(alive) else None
    if not point.begins:
        return (alive - {point.token}, begun) if point.token in alive else None
    grant, holders = grants[point.token], [grants[token] for token in alive]
    alone = grant.mode == Mode.EXCLUSIVE or any(holder.mode != grant.mode for holder in holders)
    if point.token != begun + 1 or (alone and holders):
        return None
    if grant.mode == Mode.PERMITS and sum(holder.permits for holder in holders) + grant.permits > CAPACITY:
        return None
    return alive | {point.token}, point.token


@st.composite
def _grants(draw: st.DrawFn) -> list[Grant]:
    """As the judge makes them: what was answered was over as a call before it can have ended as a grant."""
    modes = draw(st.sampled_from([[Mode.EXCLUSIVE], [Mode.SHARED], [Mode.PERMITS], [Mode.EXCLUSIVE, Mode.SHARED]]))
    found = []
    for token in range(1, draw(st.integers(1, 3)) + 1):
        mode = draw(st.sampled_from(modes))
        times = sorted(draw(st.lists(MOMENTS, min_size=4, max_size=4)))
        ended_max = draw(st.sampled_from([times[3], inf]))
        permits = draw(st.integers(1, CAPACITY)) if mode == Mode.PERMITS else 1
        found.append(Grant(token, mode, permits, times[0], times[1], times[2], ended_max))
    return found


@st.composite
def _reads(draw: st.DrawFn, tokens: int) -> list[Read]:
    found = []
    for _ in range(draw(st.integers(0, 3))):
        began, ended = sorted((draw(MOMENTS), draw(MOMENTS)))
        token = draw(st.integers(1, tokens))
        kind = draw(st.integers(0, 2))
        if kind == 0:
            found.append(Read(began, ended, exact=frozenset(draw(st.sets(st.integers(1, tokens))))))
        else:
            found.append(Read(began, ended, present=token) if kind == 1 else Read(began, ended, absent=token))
    return found


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_both_searches_agree(data: st.DataObject) -> None:
    grants = data.draw(_grants())
    reads = data.draw(_reads(len(grants)))
    points = list(_points(grants, reads))
    possible = _possible(points, frozenset(), 0, {grant.token: grant for grant in grants})
    assert (fault_in(deepcopy(grants), reads, CAPACITY) == "") == possible


def test_a_thousand_grants_with_answers_that_never_came_are_searched_quickly() -> None:
    """Every release is unanswered, so that each end could be at any later time; half of them are seen by a read."""
    grants = [
        Grant(token, Mode.EXCLUSIVE, 1, 10.0 * token, 10.0 * token + 3, 10.0 * token + 4, inf)
        for token in range(1, 1001)
    ]
    reads = [Read(10.0 * token + 5, 10.0 * token + 6, exact=frozenset({token})) for token in range(1, 1001, 2)]
    assert fault_in(deepcopy(grants), reads, 0) == ""
    late = Read(9_000.0, 9_001.0, present=1)
    assert "token 2 fits nowhere" in fault_in(grants, [*reads, late], 0)
