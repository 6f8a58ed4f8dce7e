"""Bugs of the node's service: what a leader answers, and when."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

from holdfast.wire.errors import Code
from holdfast.wire.messages import Refusal
from holdfast_shard.consensus import Applied
from holdfast_shard.machine import EntryResult, LockMachine, Machine
from holdfast_shard.node.frame import Frame
from holdfast_shard.node.service import GroupService, Reply

from .mutant import Mutant, Promise, Selection, Simulation, patch, patches

_SERVICE = Selection(("tests/node/test_service.py",))
_EMPTY = b"\x90"


def _answers_when_proposed(self: GroupService, now: float) -> None:
    """Foresees what the entry will do and says so before anybody else has it."""
    proposed: list[bytes] = []
    propose = self._propose

    def listen(group: int, payload: bytes, now: float) -> Any:
        proposed.append(payload)
        return propose(group, payload, now)

    self._propose = listen
    try:
        _CLOSE(self, now)
    finally:
        self._propose = propose
    if self not in _FORESEEN:
        _FORESEEN[self] = copy.deepcopy(self.machine)
    index, flight = next(reversed(self._flights.items()))
    foreseen = _FORESEEN[self].apply(index, flight.term, proposed[-1])
    for frame, answers in zip(flight.frames, foreseen.answers, strict=True):
        self.replies.append(Reply(frame.caller, frame.request, answers))
    flight.frames.clear()


def _has_answered_already(self: GroupService, entry: Applied) -> None:
    result = entry.result
    flight = self._flights.get(entry.index)
    if flight is not None and isinstance(result, EntryResult):
        unanswered = EntryResult(result.answers[: len(flight.frames)], result.events, result.refused)
        entry = Applied(entry.index, entry.term, unanswered, entry.noop)
    _APPLIED(self, entry)


def _reads_the_stopwatch_early(self: GroupService, now: float) -> None:
    """The frame is open from its first operation on, and keeps the reading of that moment."""
    if self._pending and self not in _OPENED:
        _OPENED[self] = now
    _TURN(self, now)


def _closes_with_an_old_reading(self: GroupService, now: float) -> None:
    _CLOSE(self, _OPENED.pop(self, now))


def _answers_reads_at_once(self: GroupService, frame: Frame) -> None:
    if self._replica.ready:
        self._readable.append(frame)
    else:
        self._refuse(frame)


def _takes_reads_along(self: GroupService, frame: Frame) -> None:
    """Joins an entry that was proposed before the read came."""
    if self._replica.ready and self._flights:
        next(reversed(self._flights.values())).reads.append(frame)
    else:
        _READ(self, frame)


def _answers_whatever_was_applied(self: GroupService, entry: Applied) -> None:
    flight = self._flights.get(entry.index)
    result = entry.result
    if flight is not None and isinstance(result, EntryResult) and (flight.term != entry.term or result.refused):
        del self._flights[entry.index]
        for frame in (*flight.frames, *flight.reads):
            self.replies.append(Reply(frame.caller, frame.request, _EMPTY))
        return
    _APPLIED(self, entry)


def _refuses_what_a_snapshot_covered(self: GroupService) -> None:
    for index in [index for index in self._flights if index <= self._replica.applied_index]:
        flight = self._flights.pop(index)
        for frame in (*flight.frames, *flight.reads):
            self._refuse(frame)


def _reads_without_office(self: GroupService, entry: Applied) -> None:
    flight = self._flights.get(entry.index)
    if flight is not None:
        self._readable += flight.reads
        flight.reads.clear()
    _APPLIED(self, entry)


def _calls_what_is_under_way_rejected(self: GroupService) -> None:
    """Out of office: refuses what was proposed like what was not."""
    _REFUSE_PENDING(self)
    for flight in self._flights.values():
        for frame in (*flight.frames, *flight.reads):
            self._reply(frame, Refusal(Code.NOT_LEADER, "this node leads no more"))
    self._flights.clear()


_CLOSE, _APPLIED, _TURN, _READ = (
    GroupService._close_entry, GroupService.applied, GroupService.turn, GroupService.read,
)  # fmt: skip
_REFUSE_PENDING = GroupService._refuse_pending
_OPENED: WeakKeyDictionary[GroupService, float] = WeakKeyDictionary()
_FORESEEN: WeakKeyDictionary[GroupService, Machine] = WeakKeyDictionary()


_FRAME = Selection(("tests/node/test_frame.py",))

MUTANTS = (
    Mutant(
        "what nobody waits for any more is proposed", Promise.COUNTED,
        patch(Frame, "awaited", lambda self, now: self), (_SERVICE,),
    ),
    Mutant(
        "answers given to the sections before them, that were left out", Promise.REJECTED,
        patch(Frame, "complete", lambda self, answers: answers), (_FRAME, _SERVICE),
    ),
    Mutant(
        "an answer before its entry is applied", Promise.KEPT,
        patches(
            patch(GroupService, "_close_entry", _answers_when_proposed),
            patch(GroupService, "applied", _has_answered_already),
        ),
        (_SERVICE, Simulation()),
    ),
    Mutant(
        "reading taken when the frame is opened", Promise.FULL_TIME,
        patches(
            patch(GroupService, "turn", _reads_the_stopwatch_early),
            patch(GroupService, "_close_entry", _closes_with_an_old_reading),
        ),
        (_SERVICE, Simulation()),
    ),
    Mutant(
        "a read answered without waiting for an entry of this term", Promise.FRESH_READS,
        patch(GroupService, "read", _answers_reads_at_once), (_SERVICE, Simulation()),
    ),
    Mutant(
        "a read answered by an entry proposed before it came", Promise.FRESH_READS,
        patch(GroupService, "read", _takes_reads_along), (_SERVICE,),
    ),
    Mutant(
        "a read answered by a leader out of office", Promise.FRESH_READS,
        patch(GroupService, "applied", _reads_without_office), (_SERVICE, Simulation()),
    ),
    Mutant(
        "a lost index answered as if applied", Promise.KEPT,
        patch(GroupService, "applied", _answers_whatever_was_applied), (_SERVICE, Simulation()),
    ),
    Mutant(
        "what a snapshot covered called rejected", Promise.REJECTED,
        patch(GroupService, "_skip_covered", _refuses_what_a_snapshot_covered), (_SERVICE,),
    ),
    Mutant(
        "what was proposed called rejected when office is lost", Promise.REJECTED,
        patch(GroupService, "_refuse_pending", _calls_what_is_under_way_rejected), (_SERVICE, Simulation()),
    ),
    Mutant(
        "time alone makes no entry", Promise.ANSWERED, patch(GroupService, "due_in_ms", lambda self, now: None),
        (_SERVICE, Simulation()),
    ),
    Mutant(
        "the leader stops while freeing is left to do", Promise.ANSWERED,
        patch(LockMachine, "backlog", property(lambda self: False)), (_SERVICE, Simulation()),
    ),
)  # fmt: skip
