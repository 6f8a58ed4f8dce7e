"""Bugs of the router: what it calls rejected, whom it believes, what it lets through."""

from __future__ import annotations

import msgspec

from holdfast.wire.errors import Code
from holdfast.wire.frames import Event, decode_answers, decode_events
from holdfast.wire.messages import GroupRole, Refusal
from holdfast_router import process, stamping
from holdfast_router.dispatch import GroupDispatch, _Flight
from holdfast_router.downstream import Downstream
from holdfast_router.item import Item
from holdfast_router.process import Router
from holdfast_router.stamping import Stamper

from .mutant import Mutant, Promise, Selection, Simulation, patch, patches

_DISPATCH = Selection(("tests/router/test_dispatch.py",))
_STAMPING = Selection(("tests/router/test_stamping.py",))
_PROCESSES = Selection(("tests/router/test_process.py",), children=True)


# What is called rejected.


def _rejects_at_the_deadline(self: GroupDispatch, item: Item, now: float) -> None:
    if not item.done and item.deadline <= now:
        self._finish(item, None, Refusal(Code.UNAVAILABLE, "no leader in time"))


def _forgets_earlier_copies(self: GroupDispatch, flight: _Flight, refusal: Refusal) -> None:
    for item in flight.items:
        self._finish(item, None, refusal)


def _forgets_copies_called_back(self: GroupDispatch, flight: _Flight) -> None:
    for item in flight.items:
        item.copies = 0
    _REQUEUE(self, flight)


def _believes_any_refusal(self: GroupDispatch, request: int, refusal: Refusal, now: float) -> None:
    """An unknown outcome is taken for a leader's word that nothing happened."""
    code = Code.NOT_LEADER if refusal.code == Code.OUTCOME_UNKNOWN else refusal.code
    _REFUSED(self, request, Refusal(code, refusal.message, refusal.retry_after_ms, refusal.leader), now)


_REQUEUE, _REFUSED = GroupDispatch._requeue, GroupDispatch.refused


# Order and leaders.


def _puts_back_in_reverse(self: GroupDispatch, flight: _Flight) -> None:
    flight.items.reverse()
    _REQUEUE(self, flight)


def _believes_any_term(self: GroupDispatch, sender: int, role: GroupRole) -> None:
    self.term = min(self.term, role.term)
    _ROLE(self, sender, role)


def _forgets_what_was_under_way(self: GroupDispatch, node: int) -> None:
    if self.leader == node:
        self.leader = 0


_ROLE = GroupDispatch.role


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


def _learns_every_claim(self: Router, group: int, item: Item, caller: Downstream, answers: bytes) -> None:
    number = item.client if item.client >= 0 else process._registered(decode_answers(answers))
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
        "a name carried to the wrong group", Promise.APART, patch(Stamper, "_slots", _slots_of_any_group), (_STAMPING,),
    ),
    Mutant(
        "a write hidden among reads", Promise.FRESH_READS,
        patch(stamping, "_ALLOWED_READS", stamping._ALLOWED_READS + stamping._ALLOWED_WRITES), (_STAMPING,),
    ),
    Mutant(
        "events of another tenant", Promise.APART,
        patches(patch(process, "decode_events", _of_nobody), patch(Router, "_learn", _learns_every_claim)),
        (_PROCESSES,),
    ),
)  # fmt: skip
