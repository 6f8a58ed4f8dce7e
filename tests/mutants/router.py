"""Bugs of the router: what it calls rejected, whom it believes, what it lets through."""

from __future__ import annotations

from math import inf

import msgspec

from holdfast.wire.errors import Code
from holdfast.wire.frames import Event, decode_answers, decode_events
from holdfast.wire.messages import GroupRole, Refusal
from holdfast_router import routes, stamping
from holdfast_router.breaker import Breaker
from holdfast_router.dispatch import GroupDispatch
from holdfast_router.downstream import Downstream
from holdfast_router.fair_queue import QUEUE_BYTES_MAX, QUEUE_SECTIONS_MAX, FairQueue
from holdfast_router.flight_limit import FlightLimit
from holdfast_router.item import Flight, Item, Launch
from holdfast_router.lane import Lane
from holdfast_router.resend_budget import ResendBudget
from holdfast_router.routes import Routes
from holdfast_router.stamping import Stamper

from .mutant import Mutant, Promise, Selection, Simulation, patch, patches

_BREAKER = Selection(("tests/router/test_breaker.py",))
_LIMIT = Selection(("tests/router/test_flight_limit.py",))
_QUEUE = Selection(("tests/router/test_fair_queue.py",))
_DISPATCH = Selection(("tests/router/test_dispatch.py",))
_STAMPING = Selection(("tests/router/test_stamping.py",))
_PROCESSES = Selection(("tests/router/test_process.py",), children=True)


# What is called rejected.


def _rejects_at_the_deadline(self: GroupDispatch, item: Item, now: float) -> None:
    if not item.done and item.deadline <= now:
        self._finish(item, None, Refusal(Code.UNAVAILABLE, "no leader in time"))


def _forgets_earlier_copies(self: GroupDispatch, flight: Flight, refusal: Refusal) -> None:
    for item in flight.items:
        self._finish(item, None, refusal)


def _forgets_copies_called_back(self: GroupDispatch, flight: Flight) -> None:
    for item in flight.items:
        item.copies = 0
    _REQUEUE(self, flight)


def _believes_any_refusal(self: GroupDispatch, request: int, refusal: Refusal, now: float) -> None:
    """An unknown outcome is taken for a leader's word that nothing happened."""
    code = Code.NOT_LEADER if refusal.code == Code.OUTCOME_UNKNOWN else refusal.code
    _REFUSED(self, request, Refusal(code, refusal.message, refusal.retry_after_ms, refusal.leader), now)


_REQUEUE, _REFUSED = GroupDispatch._requeue, GroupDispatch.refused


# Order and leaders.


def _puts_back_in_reverse(self: GroupDispatch, flight: Flight) -> None:
    flight.items.reverse()
    _REQUEUE(self, flight)


def _believes_any_term(self: GroupDispatch, sender: int, role: GroupRole) -> None:
    self.term = min(self.term, role.term)
    _ROLE(self, sender, role)


def _forgets_what_was_under_way(self: GroupDispatch, node: int) -> None:
    if self.leader == node:
        self.leader = 0


_ROLE = GroupDispatch.role


# Turns, bounds, sending again.


def _one_for_all(self: FairQueue, item: Item) -> None:
    """One queue for all tenants, first come first served."""
    self._returned[item] = None
    self._count(item, 1)


def _free_of_charge(self: FairQueue) -> Item:
    """Whoever empties its queue has nothing on the slate."""
    item = _POP(self)
    flow = self._flows.get(item.tenant)
    if flow is not None and not flow.items:
        flow.tag = self._virtual_time
    return item


def _room_for_all(self: FairQueue, item: Item) -> bool:
    """Whoever comes first fills the queue."""
    return self.sections < QUEUE_SECTIONS_MAX and self.bytes + len(item.body) <= QUEUE_BYTES_MAX


def _never_late(self: Lane, item: Item, wait_s: float) -> float:
    return 0.0


def _only_grows(self: FlightLimit, factor: float, now: float) -> None:
    self._lowered_at = now


def _measures_under_load(self: FlightLimit, launch: Launch, took_s: float, now: float) -> None:
    """What flights take at any load passes for what they take without."""
    self._base_s = took_s if self._base_s == inf else self._base_s + (took_s - self._base_s) / 8


def _lets_all_through(self: Breaker, now: float) -> float:
    """Half open for everybody."""
    return self._probe_at - now if self.open and now < self._probe_at else 0.0


def _no_budget(self: ResendBudget, now: float) -> bool:
    return True


def _exempt_alone(self: Lane) -> FairQueue | None:
    """While what holders need waits, nothing else leaves."""
    return next((queue for queue in (self._exempt, self._others) if queue.sections), None)


def _all_weigh_the_same(self: FairQueue, item: Item) -> None:
    item.weight = 1
    _PUSH(self, item)


def _nothing_exempt_from_being_late(self: GroupDispatch, kind: int, items: list[Item], now: float) -> None:
    exempt = [item for item in items if item.exempt]
    for item in exempt:
        item.exempt = False
    _SEND(self, kind, items, now)
    for item in exempt:
        item.exempt = True


def _rejects_what_was_left_out(self: GroupDispatch, item: Item, refusal: Refusal) -> None:
    self._finish(item, None, refusal)


_POP, _PUSH, _SEND = FairQueue.pop, FairQueue.push, GroupDispatch._send


# Tenants and groups.


def _slots_of_any_group(self: Stamper, tenant: int, group: int, kinds: bytes, names: list[str]) -> bytes:
    """Stamps whatever slot the name has, whoever owns it."""
    wanted, self._groups = self._groups, [group.to_bytes(2, "little")] * len(self._groups)
    try:
        return _SLOTS(self, tenant, group, kinds, names)
    finally:
        self._groups = wanted


def _of_nobody(body: bytes) -> list[Event]:
    return [msgspec.structs.replace(event, tenant=0) for event in decode_events(body)]


def _learns_every_claim(self: Routes, group: int, item: Item, caller: Downstream, answers: bytes) -> None:
    number = item.client if item.client >= 0 else routes._registered(decode_answers(answers))
    if number:
        self._route((group, 0, number), caller)


_SLOTS = Stamper._slots


MUTANTS = (
    Mutant(
        "rejected at the deadline although a copy left", Promise.REJECTED,
        patch(GroupDispatch, "_expire", _rejects_at_the_deadline), (_DISPATCH, Simulation()),
    ),
    Mutant(
        "rejected although an earlier copy may live", Promise.REJECTED,
        patch(GroupDispatch, "_reject", _forgets_earlier_copies), (_DISPATCH,),
    ),
    Mutant(
        "copies called back count as never sent", Promise.REJECTED,
        patch(GroupDispatch, "_requeue", _forgets_copies_called_back), (_DISPATCH, Simulation()),
    ),
    Mutant(
        "an unknown outcome taken for a refusal", Promise.REJECTED,
        patch(GroupDispatch, "refused", _believes_any_refusal), (_DISPATCH, Simulation()),
    ),
    Mutant(
        "sections called back leave in reverse order", Promise.IN_ORDER,
        patch(GroupDispatch, "_requeue", _puts_back_in_reverse), (_DISPATCH,),
    ),
    Mutant(
        "a leader of an older term believed", Promise.ANSWERED, patch(GroupDispatch, "role", _believes_any_term),
        (_DISPATCH,),
    ),
    Mutant(
        "what a lost leader was sent is not sent to the next", Promise.ANSWERED,
        patch(GroupDispatch, "disconnected", _forgets_what_was_under_way), (_DISPATCH, Simulation()),
    ),
    Mutant(
        "one queue for all tenants", Promise.IN_TURN, patch(FairQueue, "push", _one_for_all), (_QUEUE,),
    ),
    Mutant(
        "weights not looked at", Promise.IN_TURN, patch(FairQueue, "push", _all_weigh_the_same), (_QUEUE,),
    ),
    Mutant(
        "what a caller that has gone left behind keeps its room", Promise.COUNTED,
        patch(FairQueue, "remove", lambda self, item: None), (_QUEUE, _DISPATCH),
    ),
    Mutant(
        "late releases left out", Promise.NOTHING_LEFT,
        patch(GroupDispatch, "_send", _nothing_exempt_from_being_late), (_DISPATCH,),
    ),
    Mutant(
        "what was left out is rejected although an earlier copy may live", Promise.REJECTED,
        patch(GroupDispatch, "_reject_one", _rejects_what_was_left_out), (_DISPATCH,),
    ),
    Mutant(
        "what a tenant took is forgotten when its queue empties", Promise.IN_TURN,
        patch(FairQueue, "pop", _free_of_charge), (_QUEUE,),
    ),
    Mutant(
        "one tenant may fill a whole queue", Promise.IN_TURN, patch(FairQueue, "has_room", _room_for_all),
        (_QUEUE, _DISPATCH),
    ),
    Mutant(
        "nothing but exempt sections leaves while one waits", Promise.IN_TURN, patch(Lane, "_next", _exempt_alone),
        (_DISPATCH,),
    ),
    Mutant(
        "queues as long as patience", Promise.COUNTED, patch(Lane, "_late_s", _never_late), (_DISPATCH,),
    ),
    Mutant(
        "the limit of what is in flight only grows", Promise.COUNTED, patch(FlightLimit, "_lower", _only_grows),
        (_LIMIT,),
    ),
    Mutant(
        "the bare flight measured under load", Promise.COUNTED, patch(FlightLimit, "_measure", _measures_under_load),
        (_LIMIT,),
    ),
    Mutant(
        "a breaker that is half open for everybody", Promise.COUNTED,
        patch(Breaker, "admits_in_s", _lets_all_through), (_BREAKER,),
    ),
    Mutant(
        "sending again without a budget", Promise.COUNTED, patch(ResendBudget, "take", _no_budget),
        (_DISPATCH,),
    ),
    Mutant(
        "a name carried to the wrong group", Promise.APART, patch(Stamper, "_slots", _slots_of_any_group), (_STAMPING,),
    ),
    Mutant(
        "a write hidden among reads", Promise.FRESH_READS,
        patch(stamping, "_ALLOWED_READS", stamping._ALLOWED_READS + stamping._ALLOWED_WRITES), (_STAMPING,),
    ),
    Mutant(
        "events of another tenant", Promise.APART,
        patches(patch(routes, "decode_events", _of_nobody), patch(Routes, "learn", _learns_every_claim)),
        (_PROCESSES,),
    ),
)  # fmt: skip
