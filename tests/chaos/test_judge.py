"""The judge itself: histories that no lock could have made are refused, tricky ones that a lock could are not."""

from __future__ import annotations

from math import inf

import pytest

from .events import Mode, Op, Outcome, Shown
from .history import Call, History
from .judge import violations

NAME = "a"


def grant(
    call: str,
    token: int,
    asked: float,
    had: float,
    *,
    seen: float = 0.0,
    until: float = 0.0,
    mode: Mode = Mode.EXCLUSIVE,
    permits: int = 1,
    takes: bool = False,
    now: bool = False,
) -> Call:
    """Had at ``had``, looked at until ``seen``, and believed then until ``until`` at least."""
    looks = [(seen, max(until, seen + 0.001))] if seen else []
    return Call(
        call, Op.ACQUIRE, NAME, asked, had, Outcome.OK, mode=mode, permits=permits, capacity=3, token=token,
        takes=takes, now=now, looks=looks,
    )  # fmt: skip


def release(of: Call, began: float, ended: float = inf, outcome: Outcome = Outcome.OK, error: str = "") -> Call:
    of.looks.append((began, began + 0.001))
    return Call(f"r{of.id}", Op.RELEASE, NAME, began, ended, outcome, error, hold=of.id, token=of.token)


def asked(call: str, began: float, ended: float = inf, outcome: Outcome = Outcome.UNKNOWN, error: str = "") -> Call:
    """An acquire that was not granted, as far as its caller knows."""
    return Call(call, Op.ACQUIRE, NAME, began, ended, outcome, error, capacity=3)


def get(began: float, ended: float, *shown: Call, call: str = "get") -> Call:
    holders = tuple(Shown(one.token, one.id, one.mode, one.permits) for one in shown)
    return Call(f"{call} {began}", Op.GET, NAME, began, ended, Outcome.OK, shown=holders)


def check(token: int, began: float, ended: float, *, holds: bool) -> Call:
    return Call(f"check {began}", Op.CHECK, NAME, began, ended, Outcome.OK, token=token, holds=holds)


def force(began: float, ended: float, outcome: Outcome = Outcome.OK, *, now: bool = False, error: str = "") -> Call:
    return Call(f"force {began}", Op.FORCE, NAME, began, ended, outcome, error, takes=True, now=now)


def judged(*calls: Call) -> list[str]:
    return violations(History({call.id: call for call in calls}))


def shared(call: str, token: int, asked: float, had: float, *, seen: float) -> Call:
    return grant(call, token, asked, had, seen=seen, mode=Mode.SHARED)


def permits(call: str, token: int, asked: float, had: float, *, seen: float, permits: int) -> Call:
    return grant(call, token, asked, had, seen=seen, mode=Mode.PERMITS, permits=permits)


A = ("a", 1, 0.0, 1.0)
B = ("b", 2, 0.5, 2.0)


def bad_two_holders() -> list[Call]:
    return [grant(*A, seen=3.0), grant(*B, seen=2.5)]


def bad_two_holders_behind_a_short_hold() -> list[Call]:
    return [grant(*A, seen=9.0), grant("b", 2, 1.0, 9.0, seen=9.5), grant("c", 3, 1.0, 8.0, seen=8.5)]


def bad_two_holders_of_whom_one_was_killed() -> list[Call]:
    """It looked at 1.1 for the last time, but might have believed until 4."""
    return [grant(*A, seen=1.1, until=4.0), grant(*B, seen=2.5)]


def bad_writer_beside_a_reader() -> list[Call]:
    return [shared(*A, seen=3.0), grant(*B, seen=2.5)]


def bad_more_permits_than_there_are() -> list[Call]:
    return [permits(*A, seen=3.0, permits=2), permits(*B, seen=3.0, permits=2)]


def bad_token_falls() -> list[Call]:
    first = grant("a", 5, 0.0, 1.0)
    return [first, release(first, 1.5, 1.6), grant("b", 4, 2.0, 3.0)]


def bad_token_granted_twice() -> list[Call]:
    first = grant("a", 5, 0.0, 1.0)
    return [first, release(first, 1.5, 1.6), grant("b", 5, 0.5, 3.0)]


def bad_believed_grant_is_gone() -> list[Call]:
    return [grant(*A, seen=5.0), check(1, 2.0, 3.0, holds=False)]


def bad_believed_grant_is_not_shown() -> list[Call]:
    return [grant(*A, seen=5.0), get(2.0, 3.0)]


def bad_stale_read() -> list[Call]:
    """Released for certain, and shown afterwards."""
    first = grant(*A)
    return [first, release(first, 2.0, 3.0), get(4.0, 5.0, first)]


def bad_release_is_undone() -> list[Call]:
    """Nobody, and then the old holder again; no answer of the release is known."""
    first = grant(*A)
    return [first, release(first, 2.0, outcome=Outcome.UNKNOWN), get(3.0, 4.0), get(5.0, 6.0, first)]


def bad_expired_lease_comes_back() -> list[Call]:
    return [
        grant(*A, seen=1.5),
        check(1, 3.0, 4.0, holds=False),
        check(1, 5.0, 6.0, holds=True),
    ]


def bad_failed_acquire_had_an_effect() -> list[Call]:
    failed = asked("a", 0.0, 1.0, Outcome.FAILED, "LockTimeout")
    failed.token = 7
    return [failed, get(2.0, 3.0, failed)]


def bad_acquire_is_carried_out_twice() -> list[Call]:
    first = grant(*A)
    return [first, release(first, 1.5, 1.6), get(3.0, 4.0, grant("a", 2, 0.0, 1.0))]


def bad_holder_that_nobody_asked_for() -> list[Call]:
    return [get(3.0, 4.0, grant(*A))]


def bad_free_lock_is_refused() -> list[Call]:
    first = grant(*A)
    refused = asked("b", 3.0, 4.0, Outcome.FAILED, "LockTimeout")
    refused.tries = True
    return [first, release(first, 1.5, 2.0), refused]


def bad_force_found_nobody_while_one_held() -> list[Call]:
    return [grant(*A, seen=5.0), force(2.0, 3.0, Outcome.FAILED, error="NotHeld")]


def bad_failed_force_took_the_lock() -> list[Call]:
    failed = force(1.2, 1.3, Outcome.FAILED, now=True, error="Overloaded")
    return [
        grant(*A, seen=1.2, until=9.0),
        failed,
        grant("b", 2, 1.5, 2.0, seen=2.5),
        check(1, 1.25, 1.28, holds=False),
    ]


def bad_later_token_seen_before_the_earlier_one() -> list[Call]:
    """The reads turn the order of the tokens around."""
    first, second = asked("a", 0.0), asked("b", 0.0)
    first.token, second.token = 1, 2
    return [first, second, get(1.0, 2.0, second), get(3.0, 4.0, first)]


def bad_readers_seen_together_that_never_were() -> list[Call]:
    """Each is seen without the other, in between both: one of them would have had to come twice."""
    one, other = shared("a", 1, 0.0, 1.0, seen=0.0), shared("b", 2, 0.0, 1.0, seen=0.0)
    return [one, other, get(2.0, 2.1, one), get(3.0, 3.1, one, other)]


BAD = {name: make for name, make in list(globals().items()) if name.startswith("bad_")}


@pytest.mark.parametrize("name", BAD)
def test_what_no_lock_could_have_made_is_refused(name: str) -> None:
    assert judged(*BAD[name]())


def good_one_after_the_other() -> list[Call]:
    first, second = grant(*A), grant(*B)
    return [first, release(first, 1.5, 1.9), second, get(1.2, 1.3, first), release(second, 3.0, 4.0), get(4.0, 5.0)]


def good_release_overlaps_the_next_grant() -> list[Call]:
    first = grant(*A)
    return [first, release(first, 1.5, 4.0), grant(*B, seen=2.5), check(1, 2.1, 2.2, holds=False)]


def good_release_of_unknown_outcome_may_come_late() -> list[Call]:
    first = grant(*A)
    unanswered = release(first, 1.5, 1.6, Outcome.UNKNOWN, "OutcomeUnknown")
    return [first, unanswered, check(1, 5.0, 6.0, holds=True), check(1, 7.0, 8.0, holds=False)]


def good_release_of_unknown_outcome_may_come_at_once() -> list[Call]:
    first = grant(*A)
    return [first, release(first, 1.5, outcome=Outcome.UNKNOWN), check(1, 1.5, 1.6, holds=False), grant(*B, seen=2.5)]


def good_lease_runs_out() -> list[Call]:
    return [grant(*A, seen=1.1, until=1.9), grant(*B, seen=2.5), check(1, 2.2, 2.3, holds=False)]


def good_lease_outlives_belief() -> list[Call]:
    return [grant(*A, seen=1.1, until=1.9), get(4.0, 5.0, grant(*A))]


def good_unanswered_acquire_is_seen() -> list[Call]:
    killed = asked("a", 0.0)
    killed.token = 1
    return [killed, get(1.0, 2.0, killed), grant("b", 2, 1.0, 3.0, seen=4.0)]


def good_unanswered_acquire_never_came() -> list[Call]:
    return [asked("a", 0.0), grant(*B, seen=3.0), get(2.2, 2.3, grant(*B))]


def good_failed_acquire_was_granted_and_taken_back_within_its_call() -> list[Call]:
    failed = asked("a", 0.0, 5.0, Outcome.FAILED, "LockTimeout")
    failed.token = 1
    return [failed, get(1.0, 2.0, failed), get(2.0, 3.0)]


def good_stolen() -> list[Call]:
    """The victim heard of it after its last look, without a line written; its deadline would have been later."""
    return [grant(*A, seen=1.2, until=9.0), grant(*B, seen=2.5, takes=True)]


def good_stolen_at_once_from_a_believer() -> list[Call]:
    return [grant(*A, seen=5.0), grant(*B, seen=3.0, takes=True, now=True), get(2.1, 2.2, grant(*B))]


def good_forced_at_once_from_a_believer() -> list[Call]:
    return [grant(*A, seen=5.0), force(1.4, 1.5, now=True), grant(*B, seen=3.0), check(1, 2.2, 2.3, holds=False)]


def good_readers_together() -> list[Call]:
    one, other = shared(*A, seen=5.0), shared(*B, seen=4.0)
    return [one, other, get(1.1, 1.2, one), get(1.0, 3.0, one, other), get(2.1, 2.2, one, other)]


def good_readers_change_while_they_are_looked_at() -> list[Call]:
    """One is let go of as the other comes: together, apart, and either alone, all within one moment of overlap."""
    one, other = shared("a", 1, 0.0, 1.0, seen=2.0), shared("b", 2, 2.0, 6.0, seen=0.0)
    looks = [get(2.5, 5.0, one, other), get(2.6, 5.1, other), get(2.4, 4.9, one)]
    return [one, other, release(one, 2.5, 5.5), *looks]


def good_permits_fill_up_exactly() -> list[Call]:
    return [permits(*A, seen=3.0, permits=2), permits(*B, seen=3.0, permits=1)]


def good_refused_by_a_waiter() -> list[Call]:
    refused = asked("b", 3.0, 4.0, Outcome.FAILED, "LockTimeout")
    refused.tries = True
    return [asked("a", 1.0, 3.5, Outcome.FAILED, "LockTimeout"), refused]


def good_tokens_of_overlapping_calls_in_any_order() -> list[Call]:
    first = grant("a", 2, 0.0, 5.0)
    second = grant("b", 1, 0.0, 1.0)
    return [first, second, release(second, 2.0, 3.0)]


GOOD = {name: make for name, make in list(globals().items()) if name.startswith("good_")}


@pytest.mark.parametrize("name", GOOD)
def test_what_a_lock_could_have_made_is_accepted(name: str) -> None:
    assert judged(*GOOD[name]()) == []


def test_a_gap_is_the_longest_silence_at_an_instant() -> None:
    times = [0.9, 1.0, 1.7, 1.8, 2.0]
    history = History({f"{at}": grant(f"{at}", token, at, at) for token, at in enumerate(times, start=1)})
    assert history.gaps(0.0, 5.0, [1.1]) == [pytest.approx(0.7)]
