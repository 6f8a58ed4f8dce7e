"""Bugs of the SDK's core: how long it believes, what it sends again, what it lets go."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import inf
from typing import Any

from holdfast import clock
from holdfast.absence import AbsenceCache
from holdfast.core import belief
from holdfast.core.batch import NOBODY, Batch, fail
from holdfast.core.client import ClientCore
from holdfast.core.group import GroupClient
from holdfast.core.hold import Hold
from holdfast.core.lane import Lane
from holdfast.core.lease import Lease
from holdfast.core.plain_lease import PlainLease
from holdfast.core.release import Release
from holdfast.core.state import State
from holdfast.core.write_lane import WriteLane
from holdfast.errors import HoldfastError, LockTimeout
from holdfast.wire.frames import Event, EventKind, Kind, Reason, Status

from .mutant import Mutant, Promise, Selection, Simulation, patch, patches

_BELIEF = Selection(("tests/sdk/core/test_belief.py",))
_EXCHANGE = Selection(("tests/sdk/core/test_exchange.py",))
_RACES = Selection(("tests/sdk/core/test_races.py",))
_SCHEDULES = Selection(("tests/sdk/core/test_schedules.py",))
_ABSENCE = Selection(("tests/sdk/test_absence.py",))
_SIMULATION = Simulation()


# Until when to believe.


def _counts_from_the_reply(self: Lane, request: int, body: bytes) -> None:
    batch = self._in_flight.get(request)
    if batch is not None:
        batch.sent_ms = self._post.clock()
    _ANSWERED(self, request, body)


def _counts_from_the_last_sending(self: Lane, batch: Batch, now_ms: float) -> None:
    batch.sent_ms = now_ms
    _SEND(self, batch, now_ms)


def _counts_from_the_grant(self: Hold, token: int) -> None:
    if self.lease is not None:
        self.lease.until_ms = belief.believed_until(self.core.now_ms, self.ttl_ms)
    _GRANTED(self, token)


def _believes_until_a_timer_says_otherwise(self: Hold) -> float:
    return inf if self.state == State.HELD else 0.0


def _believes_any_grant(self: Hold, token: int) -> None:
    if self.lease is not None:
        self.lease.until_ms = max(self.lease.until_ms, self.core.now_ms + 1000.0)
    _HELD(self, token)


def _extends_by_any_answer(
    self: Hold, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
) -> None:
    lease = self.lease
    _HOLD_ANSWERED(self, kind, status, token, deadline_ms, detail, seq, sent_ms)
    if kind == Kind.ACQUIRE and status == Status.OK and self.session is not None and lease is not None:
        lease._extend(belief.believed_until(sent_ms, deadline_ms))


_ANSWERED, _SEND, _GRANTED, _HELD, _HOLD_ANSWERED = (
    Lane.answered, Lane._send, Hold.granted, Hold._held, Hold.answered,
)  # fmt: skip


# What it hears.


def _takes_changed_for_unchanged(
    self: Lease, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
) -> None:
    """The keepalive finds out about a lost event, and nobody looks."""
    status = Status.OK if status == Status.CHANGED else status
    _LEASE_ANSWERED(self, kind, int(status), token, deadline_ms, detail, seq, sent_ms)


def _notes_any_change(self: Lease, change: int) -> None:
    self.change = max(self.change, change)


def _redeems_what_was_promised_since(self: Lease, status: int, detail: Any) -> None:
    self._redeemable_ms = self._promise_ms
    _FETCHED(self, status, detail)


def _hears_no_recall(self: GroupClient, event: Event) -> None:
    if event.kind != EventKind.RECALL:
        _EVENT(self, event)


def _hears_anybodys_events(self: GroupClient, event: Event) -> None:
    mine, self.writes.client = self.writes.client, event.client
    try:
        _EVENT(self, event)
    finally:
        self.writes.client = mine


def _drops_what_came_early(self: GroupClient, event: Event, seq: int) -> bool:
    return self.writes.is_open(seq) and not self.writes.is_pinned(seq)


_LEASE_ANSWERED, _FETCHED, _EVENT = Lease.answered, Lease._fetched, GroupClient.event


# Keeping alive.


def _renews_once(self: Lease, *waiter: Any) -> None:
    if self.renewed_ms and self.until_ms > self.renewed_ms + self.ttl_ms / 2 and id(self) not in _RENEWED:
        _RENEWED[id(self)] = self
        _RENEW(self, *waiter)
    else:
        self.group.wheel.add(self, self.until_ms)


_RENEW = Lease.renew
_RENEWED: dict[int, Lease] = {}


# Exactly once.


def _numbers_every_copy_anew(self: Lane, batch: Batch, now_ms: float) -> None:
    if isinstance(self, WriteLane) and batch.attempts and batch.client == self.client:
        self._unanswered.pop(batch.seqs[0], None)
        sent_ms = batch.sent_ms
        self._seal(batch, now_ms)
        batch.sent_ms = sent_ms
    _SEND(self, batch, now_ms)


def _forgets_releases(self: Lane, batches: Iterable[Batch]) -> None:
    """A release under way is thought to have arrived."""
    for batch in list(batches):
        if set(batch.kinds) <= {int(Kind.RELEASE)}:
            self._forget(batch)
            for at, caller in enumerate(batch.callers):
                caller.answered(Kind.RELEASE, Status.OK, 0, 0, None, batch.seqs[at], batch.sent_ms)
        else:
            _LOST(self, [batch])


def _floor_of_the_youngest(self: WriteLane) -> int:
    """Tells the group that it may forget answers that were never heard."""
    return self.next_seq


def _goes_on_under_the_old_number(self: GroupClient) -> None:
    """Believes what it had, although the group has forgotten it."""
    queue = list(self.writes._queue)
    for batch in queue:
        self.writes._queue.remove(batch)
    self.writes._open = None
    self.writes.registered(0)
    self.writes._queue.extend(queue)


_LOST = Lane._lost


# Letting go.


def _takes_back_in_silence(self: Hold) -> None:
    batch, self._batch = self._batch, None
    if batch is not None:
        batch.callers[self._at] = NOBODY


def _leaves_its_ticket(self: Hold) -> None:
    if self.state == State.WAITING:
        self._drop_ticket()
        self._waiter = None
        self.state = State.IDLE
        self._leave()
    else:
        _GIVE_UP(self)


def _forgets_a_release_without_an_answer(self: Release, kind: int, error: HoldfastError) -> None:
    fail(self._waiter, error)
    self._waiter = None
    self._hold.state = State.IDLE


def _keeps_a_grant_that_came_too_late(self: GroupClient, name: str, token: int) -> None:
    """Does not give it back."""


def _gives_no_ticket_back(self: Hold) -> None:
    """The time to wait is over, and nobody tells the group."""
    self._drop_ticket()
    self._fail(LockTimeout(self.name, self.wait_s))


def _never_gives_up(self: Lane, now_ms: float) -> None:
    """Whoever waits for an answer waits for ever."""


_GIVE_UP = Hold.give_up


def _keeps_what_it_lost(self: Hold, reason: Reason, text: str = "") -> None:
    assert self._listener is not None
    self._listener.hold_lost(reason, text)


MUTANTS = (
    Mutant(
        "lease measured from the reply", Promise.ONE_HOLDER, patch(Lane, "answered", _counts_from_the_reply),
        (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "belief from the second sending", Promise.ONE_HOLDER, patch(Lane, "_send", _counts_from_the_last_sending),
        (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "belief from the grant's arrival", Promise.ONE_HOLDER, patch(Hold, "granted", _counts_from_the_grant),
        (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "belief through suspend: a clock that stands still", Promise.ONE_HOLDER,
        patch(clock, "boottime_ms", lambda: time.clock_gettime(time.CLOCK_MONOTONIC) * 1000.0),
        (Selection(("tests/sdk/test_clock.py",)),),
    ),
    Mutant(
        "belief through suspend: ended by timers alone", Promise.ONE_HOLDER,
        patch(Hold, "until_ms", property(_believes_until_a_timer_says_otherwise)), (_BELIEF, _SIMULATION),
    ),
    Mutant("no margin for drift", Promise.ONE_HOLDER, patch(belief, "DRIFT", 0.0), (_BELIEF, _SIMULATION)),
    Mutant(
        "a grant too old to be believed is believed", Promise.ONE_HOLDER, patch(Hold, "_held", _believes_any_grant),
        (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "a session extended by any answer", Promise.TOLD, patch(Hold, "answered", _extends_by_any_answer), (_BELIEF,),
    ),
    Mutant(
        "lost steal event", Promise.TOLD,
        patch(Lease, "answered", _takes_changed_for_unchanged), (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "a gap between events not noticed", Promise.TOLD, patch(Lease, "note_change", _notes_any_change),
        (_BELIEF, _RACES, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "a promise redeemed by a look that came before it", Promise.TOLD,
        patch(Lease, "_fetched", _redeems_what_was_promised_since), (_RACES,),
    ),
    Mutant(
        "a hold kept after its loss", Promise.TOLD, patch(Hold, "lose", _keeps_what_it_lost), (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "cached \"not held\" kept after loss", Promise.FRESH_READS,
        patches(
            patch(AbsenceCache, "forget", lambda self, entry: None),
            patch(AbsenceCache, "knows", lambda self, name: name in self._entries),
        ),
        (_ABSENCE,),
    ),
    Mutant(
        "a cacher does not make way", Promise.ANSWERED, patch(GroupClient, "event", _hears_no_recall),
        (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "events of another client heard", Promise.APART,
        patch(GroupClient, "event", _hears_anybodys_events), (_EXCHANGE,),
    ),
    Mutant(
        "an event that overtakes its answer dropped", Promise.ANSWERED,
        patch(GroupClient, "_keep_early", _drops_what_came_early), (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "tickets not asked for after a reconnect", Promise.ANSWERED,
        patch(GroupClient, "ask_tickets", lambda self: None),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant("keepalive stopped", Promise.FULL_TIME, patch(Lease, "renew", _renews_once), (_BELIEF, _SIMULATION)),
    Mutant(
        "a waiter's lease not kept alive", Promise.IN_ORDER,
        patch(PlainLease, "wanted", property(lambda self: self._hold.renews and self._hold.state == State.HELD)),
        (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "a copy sent under new numbers", Promise.ONCE, patch(Lane, "_send", _numbers_every_copy_anew),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "release forgotten after a reconnect", Promise.NOTHING_LEFT, patch(Lane, "_lost", _forgets_releases),
        (_EXCHANGE, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "answers given up before they were heard", Promise.ONCE,
        patch(WriteLane, "floor", property(_floor_of_the_youngest)),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "cancel before acquire: its answer given up", Promise.NOTHING_LEFT,
        patch(WriteLane, "pin", lambda self, seq: None),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "an acquire given up is not cancelled", Promise.NOTHING_LEFT, patch(Hold, "_take_back", _takes_back_in_silence),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "a ticket given up is not cancelled", Promise.NOTHING_LEFT, patch(Hold, "give_up", _leaves_its_ticket),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "a grant too old is kept by the group", Promise.NOTHING_LEFT,
        patch(GroupClient, "give_back", _keeps_a_grant_that_came_too_late), (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "a release refused is not tried again", Promise.NOTHING_LEFT,
        patch(Release, "failed", _forgets_a_release_without_an_answer), (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "a forgotten client believes what it had", Promise.ONE_HOLDER,
        patch(GroupClient, "unregistered", _goes_on_under_the_old_number), (_EXCHANGE, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "a ticket whose time is over is not cancelled", Promise.NOTHING_LEFT,
        patch(Hold, "wait_over", _gives_no_ticket_back), (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "no patience ends", Promise.ANSWERED, patch(Lane, "expire", _never_gives_up), (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "a silent router waited for", Promise.ANSWERED, patch(ClientCore, "_listen", lambda self, now_ms: None),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant(
        "renewed only when it is over", Promise.FULL_TIME, patch(belief, "RENEWALS_PER_TTL", 1), (_BELIEF, _SIMULATION),
    ),
    Mutant(
        "a new leader's tickets not asked for", Promise.ANSWERED, patch(GroupClient, "role", lambda self, role: None),
        (_EXCHANGE, _SIMULATION),
    ),
    Mutant("a forked child believes", Promise.ONE_HOLDER, patch(ClientCore, "forked", lambda self: None), (_EXCHANGE,)),
)  # fmt: skip
