"""Whether the calls of one name can be put in an order that a lock could have had, each within its real-time bounds.

Linearizability is that of Herlihy and Wing ("Linearizability: a correctness condition for concurrent objects", TOPLAS
1990). The search is that of Wing and Gong ("Testing and verifying concurrent objects", JPDC 1993) in the form of Lowe
("Testing for linearizability", CCPE 2017): states that were seen are not searched again, and nothing is put in order
before something returns ("just in time"). Locks of different names are judged apart (Horn and Kroening, "Faster
linearizability checking via P-compositionality", FORTE 2015). No maintained Python library does this: Porcupine is Go,
Knossos is Clojure.

What a lock adds to a register:

* A grant is two operations, its beginning and its end. The end is bounded from below by what its holder believed and
  from above by an answered release; without one it may come at any later time, for so may the lease's end.
* Tokens say in which order grants began. So of all grants only the next one can be the next, and the search does not
  branch over orders, only over how long to wait.
* A read changes nothing, so it is put in order as soon as it fits. A grant ends as soon as it may and no read under
  way has still to see it: later is no better, for absence hinders nothing, and sooner leaves that read without a place.
* So the one choice is when the next grant begins. There are about as many states at a moment as acquires under way,
  and the search is linear in the number of calls.
* What may have been granted to a caller who never heard of it, and what no read shows, needs no place: it only could
  have kept others out, and nothing else is asked to have been kept out by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

from .events import Mode


@dataclass(slots=True)
class Grant:
    """Began within [began_min, began_max] and ended within [ended_min, ended_max], by real time."""

    token: int
    mode: Mode
    permits: int
    began_min: float
    began_max: float
    ended_min: float
    ended_max: float


@dataclass(frozen=True, slots=True)
class Read:
    """At some moment within [began, ended] exactly ``exact`` held; or ``present`` did; or ``absent`` did not."""

    began: float
    ended: float
    exact: frozenset[int] | None = None
    present: int = 0
    absent: int = 0

    def fits(self, alive: frozenset[int]) -> bool:
        if self.exact is not None:
            return alive == self.exact
        return self.present in alive if self.present else self.absent not in alive

    def __str__(self) -> str:
        if self.exact is not None:
            said = f"that {sorted(self.exact) or 'nobody'} held"
        else:
            said = f"that token {self.present} held" if self.present else f"that token {self.absent} did not hold"
        return f"read [{self.began:.6f}, {self.ended:.6f}] {said}"

    def shows(self, token: int) -> bool:
        return token == self.present or (self.exact is not None and token in self.exact)


_State = tuple[int, frozenset[int], frozenset[int]]
"""How many grants have begun, which of them are alive, which of the reads under way are done."""


class _Step(Enum):
    BEGIN = "grant"
    END = "end of the grant"
    READ = "read"


@dataclass(frozen=True, slots=True)
class _Return:
    """What must be in order by ``at``; ``number`` is that of the grant or of the read."""

    at: float
    step: _Step
    number: int


def fault_in(grants: Iterable[Grant], reads: Sequence[Read], capacity: int) -> str:
    """Why no lock could have answered so, in words; empty when one could. Changes the bounds of ``grants``."""
    return _Search(sorted(grants, key=lambda grant: grant.token), reads, capacity).fault()


class _Search:
    def __init__(self, grants: list[Grant], reads: Sequence[Read], capacity: int) -> None:
        self._grants = grants
        self._by_token = {grant.token: grant for grant in grants}
        self._reads = sorted(reads, key=lambda read: read.began)
        self._capacity = capacity
        self._open: dict[int, Read] = {}
        self._now = 0.0

    def fault(self) -> str:
        unknown = self._tighten()
        if unknown:
            return unknown
        states: set[_State] = {(0, frozenset(), frozenset())}
        opening = 0
        for due in self._returns():
            while opening < len(self._reads) and self._reads[opening].began <= due.at:
                self._open[opening] = self._reads[opening]
                opening += 1
            self._now = due.at
            states = {state for state in self._closure(states) if self._done(state, due)}
            if not states:
                return f"{self._say(due)} fits nowhere up to {due.at:.6f}, in whatever order things happened"
            if due.step == _Step.READ:
                del self._open[due.number]
                states = {(begun, alive, done - {due.number}) for begun, alive, done in states}
        return ""

    def _tighten(self) -> str:
        """A grant that a read shows began before the read returned, and ended after it was called."""
        for read in self._reads:
            for token in read.exact or ((read.present,) if read.present else ()):
                grant = self._by_token.get(token)
                if grant is None:
                    return f"token {token} was seen held by a read until {read.ended:.6f}, and was never granted"
                grant.began_max = min(grant.began_max, read.ended)
                grant.ended_min = max(grant.ended_min, read.began)
        return ""

    def _returns(self) -> Iterator[_Return]:
        found = [
            *(_Return(grant.began_max, _Step.BEGIN, number) for number, grant in enumerate(self._grants)),
            *(_Return(grant.ended_max, _Step.END, number) for number, grant in enumerate(self._grants)),
            *(_Return(read.ended, _Step.READ, number) for number, read in enumerate(self._reads)),
        ]
        return iter(sorted((due for due in found if due.at < inf), key=lambda due: due.at))

    def _say(self, due: _Return) -> str:
        if due.step == _Step.READ:
            return f"the {self._reads[due.number]}"
        return f"the {due.step.value} of token {self._grants[due.number].token}"

    def _done(self, state: _State, due: _Return) -> bool:
        begun, alive, done = state
        if due.step == _Step.READ:
            return due.number in done
        if due.number >= begun:
            return False
        return due.step == _Step.BEGIN or self._grants[due.number].token not in alive

    def _closure(self, states: set[_State]) -> set[_State]:
        found = {self._settle(state) for state in states}
        unexplored = list(found)
        while unexplored:
            state = self._begin(unexplored.pop())
            if state is not None and state not in found:
                found.add(state)
                unexplored.append(state)
        return found

    def _begin(self, state: _State) -> _State | None:
        """The state after the next grant, if it may begin now."""
        begun, alive, done = state
        if begun == len(self._grants):
            return None
        grant = self._grants[begun]
        if grant.began_min > self._now or not self._room(grant, alive):
            return None
        return self._settle((begun + 1, alive | {grant.token}, done))

    def _room(self, grant: Grant, alive: frozenset[int]) -> bool:
        holders = [self._by_token[token] for token in alive]
        if grant.mode == Mode.EXCLUSIVE or any(holder.mode != grant.mode for holder in holders):
            return not holders
        return grant.mode == Mode.SHARED or sum(holder.permits for holder in holders) + grant.permits <= self._capacity

    def _settle(self, state: _State) -> _State:
        """Do what is never too early: reads that fit, and ends of what no read under way has still to see."""
        begun, alive, done = state
        while True:
            fitting = [n for n, read in self._open.items() if n not in done and read.fits(alive)]
            done = done.union(fitting)
            wanted = [read for n, read in self._open.items() if n not in done]
            over = [
                token
                for token in alive
                if self._by_token[token].ended_min <= self._now and not any(read.shows(token) for read in wanted)
            ]
            if not over:
                return begun, alive, done
            alive = alive.difference(over)
