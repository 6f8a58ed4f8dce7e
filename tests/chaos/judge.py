"""What no run may show. Each rule is a function from the calls of one name to broken promises, in words.

1. One holder, by what the holders themselves believed; sharing and capacity likewise. Who takes a lock with ``now`` is
   the exception, and is judged by tokens alone.
2. Linearizable (``linearizable``).
3. Tokens rise, and none is granted twice.
4. No acknowledged grant is lost while it is believed.
5. What failed for certain had no effect, and no call had one twice.
6. A free lock is not refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from .events import Mode, Op, Outcome, Shown
from .history import Call, History, believed_until
from .linearizable import Grant, Read, fault_in

EXCUSED_S = 60.0
"""For so long what was not released may keep others out: until its lease has run out, and longer than that."""


@dataclass(slots=True)
class Belief:
    """``acquire`` returned, and its holder believed until ``until_s`` at least."""

    acquire: Call
    until_s: float
    release: Call | None


def violations(history: History) -> list[str]:
    """Every broken promise; empty when there is none."""
    return [found for calls in history.by_name().values() for found in _of_name(calls)]


def _of_name(calls: list[Call]) -> Iterator[str]:
    beliefs = _beliefs(calls)
    forced = [call for call in calls if call.now and call.takes and call.outcome != Outcome.FAILED]
    yield from _one_holder(beliefs, forced)
    yield from _tokens_rise(beliefs)
    yield from _grants_kept(beliefs, calls, forced)
    yield from _no_effect_of_failures(calls)
    yield from _free_is_free(calls)
    name = calls[0].name
    fault = fault_in(_grants(beliefs, calls, forced), list(_reads(calls)), max(call.capacity for call in calls))
    if fault:
        yield f"{name!r} is not linearizable: {fault}"


def _beliefs(calls: list[Call]) -> list[Belief]:
    """In the order of tokens."""
    # A steal that got nothing may have made a holder let go all the same.
    takers = [call for call in calls if call.takes and (call.op == Op.ACQUIRE or call.outcome != Outcome.FAILED)]
    releases: dict[str, Call] = {}
    for call in calls:
        if call.op == Op.RELEASE:
            releases.setdefault(call.hold, call)
    found = []
    for call in calls:
        if call.granted:
            release = releases.get(call.id)
            last = max((until for _, until in call.looks), default=call.ended)
            taken = any(taker is not call and taker.began <= last and taker.ended >= call.began for taker in takers)
            found.append(Belief(call, believed_until(call, release, taken=taken), release))
    return sorted(found, key=lambda belief: belief.acquire.token)


def _one_holder(beliefs: list[Belief], forced: list[Call]) -> Iterator[str]:
    """A sweep over who believed, in the order in which belief began."""
    believing: list[Belief] = []
    for belief in sorted(beliefs, key=lambda belief: belief.acquire.ended):
        acquire = belief.acquire
        believing = [other for other in believing if other.until_s > acquire.ended]
        if belief.until_s <= acquire.ended:
            continue
        believing.append(belief)
        for other in believing[:-1]:
            if {acquire.mode, other.acquire.mode} in ({Mode.SHARED}, {Mode.PERMITS}):
                continue
            if not _excused(other, belief, forced):
                yield (
                    f"two holders of {acquire.name!r}: {other.acquire} believed until {other.until_s:.6f}, "
                    f"{acquire} from {acquire.ended:.6f}"
                )
        used = sum(other.acquire.permits for other in believing)
        if acquire.mode == Mode.PERMITS and used > acquire.capacity:
            yield f"{used} of {acquire.capacity} permits of {acquire.name!r} believed held at {acquire.ended:.6f}"


def _excused(one: Belief, other: Belief, forced: list[Call]) -> bool:
    """Whether somebody took the name with ``now`` from whichever of the two was first, and gave it to the other."""
    first, second = sorted((one, other), key=lambda belief: belief.acquire.token)
    return any(call.ended >= first.acquire.began and call.began <= second.acquire.ended for call in forced)


def _tokens_rise(beliefs: list[Belief]) -> Iterator[str]:
    """Only grants that do not overlap in real time are ordered: one asked for after the other was had."""
    by_token: dict[int, Call] = {}
    for belief in beliefs:
        acquire = belief.acquire
        twin = by_token.setdefault(acquire.token, acquire)
        if twin is not acquire:
            yield f"token {acquire.token} of {acquire.name!r} was granted twice: {twin}, {acquire}"
    highest: Call | None = None
    had = sorted((belief.acquire for belief in beliefs), key=lambda call: call.ended)
    asked = sorted(had, key=lambda call: call.began)
    position = 0
    for call in asked:
        while had[position].ended < call.began:
            if highest is None or had[position].token > highest.token:
                highest = had[position]
            position += 1
        if highest is not None and call.token <= highest.token:
            yield f"token of {call.name!r} fell from {highest.token} to {call.token}: {highest}, then {call}"


def _grants_kept(beliefs: list[Belief], calls: list[Call], forced: list[Call]) -> Iterator[str]:
    """A sweep over the reads, in the order in which they were called; both lists hold whoever believes then."""
    coming = sorted(beliefs, key=lambda belief: belief.acquire.ended, reverse=True)
    believing: list[Belief] = []
    for read in calls:
        if read.op not in (Op.CHECK, Op.GET) or read.outcome != Outcome.OK:
            continue
        while coming and coming[-1].acquire.ended <= read.began:
            believing.append(coming.pop())
        believing = [belief for belief in believing if belief.until_s >= read.began]
        for belief in believing:
            if belief.until_s >= read.ended and _misses(read, belief.acquire.token):
                taken = any(call.began <= read.ended and call.ended >= belief.acquire.began for call in forced)
                if not taken:
                    yield f"a believed grant was lost: {belief.acquire}, believed until {belief.until_s:.6f}; {read}"


def _misses(read: Call, token: int) -> bool:
    if read.op == Op.CHECK:
        return read.token == token and not read.holds
    return all(shown.token != token for shown in read.shown)


def _no_effect_of_failures(calls: list[Call]) -> Iterator[str]:
    acquires = {call.id: call for call in calls if call.op == Op.ACQUIRE}
    for read in calls:
        for shown in read.shown:
            acquire = acquires.get(shown.call)
            if acquire is None:
                yield f"{read} showed a holder (token {shown.token}, {shown.call!r}) that nobody had asked for"
            elif acquire.outcome == Outcome.FAILED and acquire.ended < read.began:
                yield f"{acquire} ({acquire.error}) failed for certain, but {read} showed it under token {shown.token}"
            elif acquire.granted and acquire.token < shown.token:
                yield f"{acquire} was granted again, under token {shown.token}, as {read} showed"


def _free_is_free(calls: list[Call]) -> Iterator[str]:
    """A try that was refused met a holder or a waiter, or somebody who may have been one."""
    released: dict[str, float] = {}
    for call in calls:
        if call.op == Op.RELEASE and call.outcome == Outcome.OK:
            released[call.hold] = min(call.ended, released.get(call.hold, inf))
    coming = [call for call in reversed(calls) if call.op == Op.ACQUIRE]
    until = -inf
    refusals = [call for call in calls if call.tries and call.error == "LockTimeout"]
    for refused in sorted(refusals, key=lambda call: call.ended):
        while coming and coming[-1].began <= refused.ended:
            call = coming.pop()
            if not (call.tries and call.outcome == Outcome.FAILED):
                until = max(until, _in_the_way_until(call, released))
        if until < refused.began:
            yield f"{refused} was refused, and nobody held or awaited the lock"


def _in_the_way_until(acquire: Call, released: dict[str, float]) -> float:
    if acquire.outcome == Outcome.FAILED:
        return acquire.ended
    deadline = max((until for _, until in acquire.looks), default=min(acquire.ended, acquire.began + EXCUSED_S))
    return min(deadline + EXCUSED_S, released.get(acquire.id, inf))


def _grants(beliefs: list[Belief], calls: list[Call], forced: list[Call]) -> list[Grant]:
    """Grants that were answered, and those that only a read showed."""
    grants: dict[int, Grant] = {}
    for belief in beliefs:
        acquire, ended_min = belief.acquire, belief.until_s
        for taker in forced:
            if taker is not acquire and taker.ended >= acquire.began:
                ended_min = min(ended_min, max(taker.began, acquire.began))
        release = belief.release
        answered = release is not None and release.outcome == Outcome.OK
        ended_max = release.ended if release is not None and answered else inf
        grants[acquire.token] = Grant(
            acquire.token, acquire.mode, acquire.permits, acquire.began, acquire.ended, ended_min, ended_max
        )
    acquires = {call.id: call for call in calls if call.op == Op.ACQUIRE}
    for read in calls:
        for shown in read.shown:
            if shown.token not in grants:
                grants[shown.token] = _unanswered(shown, acquires.get(shown.call), read)
    return list(grants.values())


def _unanswered(shown: Shown, acquire: Call | None, read: Call) -> Grant:
    began = acquire.began if acquire is not None else -inf
    over = acquire.ended if acquire is not None and acquire.outcome == Outcome.FAILED else inf
    return Grant(shown.token, shown.mode, shown.permits, began, read.ended, read.began, over)


def _reads(calls: Iterable[Call]) -> Iterator[Read]:
    """Answers that say who held at some moment of the call."""
    for call in calls:
        began, ended = call.began, call.ended
        if call.outcome == Outcome.OK and call.op == Op.GET:
            yield Read(began, ended, exact=frozenset(shown.token for shown in call.shown))
        elif call.outcome == Outcome.OK and (call.op == Op.RENEW or (call.op == Op.CHECK and call.holds)):
            yield Read(began, ended, present=call.token)
        elif call.outcome == Outcome.OK and call.op == Op.CHECK:
            yield Read(began, ended, absent=call.token)
        elif _nobody_held(call):
            yield Read(began, ended, absent=call.token) if call.token else Read(began, ended, exact=frozenset())


def _nobody_held(call: Call) -> bool:
    """Refused by the service, for that token, or nobody at all, held the lock."""
    return call.op in (Op.RELEASE, Op.FORCE) and call.outcome == Outcome.FAILED and call.error == "NotHeld"
