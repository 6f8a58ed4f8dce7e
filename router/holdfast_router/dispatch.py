"""Sections in, frames out: one group's queue, window and leader. Sans-io.

What arrives while the window is full leaves together as the next frame, tenants in turn (:mod:`lane`). A section may be
sent to several leaders in turn: operations are exactly-once by (client, seq), so sending again is always safe, and
saying "rejected" is allowed only when every copy that left was certainly refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import ceil, inf

import msgspec

from holdfast.wire.errors import Code
from holdfast.wire.frames import DROPPED, decode_raw_list, encode
from holdfast.wire.messages import GroupRole, Msg, Refusal

from .breaker import Breaker
from .item import Flight, Frame, Item, Outcome
from .lane import Lane
from .resend_budget import ResendBudget

RETRY_S = 0.02
"""Pause before asking again a leader that refuses and names no other."""
_PAUSE_MS = 100
"""For callers whose sections are not sent again: the budget has then grown by what a busy group sends in it."""

_PAIR = b"\x92"
"""msgpack's header of a :class:`~holdfast.wire.messages.FrameRequest`: its frame is put together from what was encoded
before."""

_ELSEWHERE = (Code.NOT_LEADER, Code.OUTCOME_UNKNOWN, Code.NO_SUCH_GROUP)
"""The node cannot tell or do it; another might."""


class GroupDispatch:
    def __init__(self, group: int) -> None:
        self.group = group
        self.leader = 0
        """The node that serves the group, 0 when none is known."""
        self.term = 0
        """Highest term in which anybody was seen to serve."""
        self.lanes = {int(Msg.OPS): Lane(group), int(Msg.READ): Lane(group)}
        self.breaker = Breaker()
        self._budget = ResendBudget()
        self._flights: dict[int, Flight] = {}
        self._too_often = f"group {group} loses its leader too often"
        self._next_request = 1
        self._ask_again_at = 0.0
        self._asking = False
        """Whether the leader said that it does not lead, and nobody has said otherwise since."""
        self._now = 0.0
        self._of: dict[object, dict[Item, None]] = {}
        """By caller, what is not done, in the order in which it came."""
        self._first_deadline = inf
        """No section that is not done has an earlier one."""
        self.frames: list[Frame] = []
        self.outcomes: list[Outcome] = []
        self.refusals: Counter[int] = Counter()
        """Operations that were refused here or by the group, by code, since the start."""

    # Input.

    def refusal(self, item: Item) -> Refusal | None:
        """Why ``item`` would be refused for want of room or time, if it would. Its body may still be what it is to be
        stamped from."""
        return self.lanes[item.kind].refusal(item)

    def submit(self, item: Item, *, looked: bool = False) -> None:
        """``looked``: :meth:`refusal` has just said that it finds room and time; its stamp may come on top."""
        lane = self.lanes[item.kind]
        refusal = None if looked else lane.refusal(item)
        if refusal is None and self.breaker.open:
            refusal = self._broken(item)
        if refusal is not None:
            self._finish(item, None, refusal)
            return
        if not (self._of or self._flights):
            self.breaker.asked(item.arrived)
        lane.push(item)
        mine = self._of.get(item.caller)
        if mine is None:
            self._of[item.caller] = {item: None}
        else:
            mine[item] = None
        if item.deadline < self._first_deadline:
            self._first_deadline = item.deadline

    def _broken(self, item: Item) -> Refusal | None:
        if item.exempt:
            return None
        again_s = self.breaker.admits_in_s(item.arrived)
        if not again_s:
            return None
        text = f"group {self.group} answers nothing; it is asked again when this time has passed"
        return Refusal(Code.UNAVAILABLE, text, ceil(1000 * again_s))

    def role(self, sender: int, role: GroupRole) -> None:
        """A node says who leads. Only a leader's own word that it serves counts; a higher term wins."""
        if role.ready and role.node == sender and role.term >= self.term:
            if role.term > self.term or self.leader != sender:
                self._recall(lambda flight: flight.node != sender or flight.term < role.term)
                self._asking = False
                self.breaker.leader_found()
            self.leader, self.term = sender, role.term
        elif self.leader == sender and not role.ready:
            self.leader = 0
            self._recall(lambda flight: flight.node == sender)

    def disconnected(self, node: int) -> None:
        if self.leader == node:
            self.leader = 0
        self._recall(lambda flight: flight.node == node)

    def unsent(self, frame: Frame) -> None:
        """There was no connection to hand the frame to."""
        flight = self._land(frame.request)
        if flight is not None:
            for item in flight.items:
                item.copies -= 1
            self._put_back([item for item in flight.items if not item.done])
        self.disconnected(frame.node)

    def answered(self, request: int, body: bytes, now: float) -> None:
        self._now = now
        flight = self._land(request, answered=True)
        if flight is None:
            return
        self.breaker.answered(now)
        self._asking = False
        try:
            answers = decode_raw_list(body)
        except msgspec.DecodeError:
            answers = []
        if len(answers) != len(flight.items):
            self._reject(flight, Refusal(Code.BAD_MESSAGE, "a section of this frame was not understood"))
            return
        for item, answer in zip(flight.items, map(bytes, answers), strict=True):
            if answer == DROPPED:
                self._reject_one(item, self.lanes[flight.kind].overdue(item))
            else:
                self._finish(item, answer)

    def refused(self, request: int, refusal: Refusal, now: float) -> None:
        self._now = now
        flight = self._land(request)
        if flight is None:
            return
        if refusal.code in (Code.NOT_LEADER, Code.NO_SUCH_GROUP, Code.OVERLOADED):
            for item in flight.items:
                item.copies -= 1
        if refusal.code in _ELSEWHERE:
            self._look_elsewhere(flight.node, refusal.leader, now)
            self._requeue(flight)
            return
        self.breaker.answered(now)
        if refusal.code == Code.OVERLOADED:
            self.lanes[flight.kind].limit.overloaded(now)
            self._ask_again_at = now + refusal.retry_after_ms / 1000
            self._requeue(flight)
        else:
            self._reject(flight, refusal)

    def _look_elsewhere(self, node: int, leader: int, now: float) -> None:
        """``node`` does not lead, and says who might."""
        if self.leader != node:
            return
        if leader not in (0, node):
            self.leader = leader
            self._asking = False
        else:
            # It will say who leads when it knows; should that word be lost, it is asked again.
            self._ask_again_at = now + RETRY_S
            self._asking = True

    def _reject(self, flight: Flight, refusal: Refusal) -> None:
        for item in flight.items:
            self._reject_one(item, refusal)

    def _reject_one(self, item: Item, refusal: Refusal) -> None:
        """Nothing came of the last copy; of an earlier one something may."""
        if item.copies > 1:
            text = f"{refusal.message}; an earlier copy may have been carried out"
            self._finish(item, None, Refusal(Code.OUTCOME_UNKNOWN, text))
        else:
            self._finish(item, None, refusal)

    # Work.

    def turn(self, now: float) -> None:
        """Close as many frames as may leave."""
        self._now = now
        if not self.leader or not self._of or now < self._ask_again_at:
            return
        if self._asking:
            self._ask(now)
            return
        for kind, lane in self.lanes.items():
            while items := lane.gather():
                self._send(kind, items, now)

    def _ask(self, now: float) -> None:
        """One section shows whether the node leads again; the others are not carried there and back."""
        for kind, lane in self.lanes.items():
            if not self._flights and (items := lane.gather(sections_max=1)):
                self._send(kind, items, now)

    def _send(self, kind: int, items: list[Item], now: float) -> None:
        request = self._next_request
        self._next_request = request % 0xFFFFFFFF + 1
        operations = 0
        first_time = 0
        patience_ms: list[int] = []
        for item in items:
            first_time += not item.sends
            item.sends += 1
            item.copies += 1
            operations += item.operations
            # What gives back or keeps alive is of use to others, or to whoever asks next, however late it is.
            patience_ms.append(0 if item.exempt else max(int(1000 * (item.deadline - now)), 1))
        self._budget.sent(first_time, now)
        lane = self.lanes[kind]
        lane.frames += 1
        self._flights[request] = Flight(self.leader, self.term, kind, lane.limit.left(operations, now), items)
        body = _PAIR + encode(patience_ms) + _array_header(len(items)) + b"".join([item.body for item in items])
        self.frames.append(Frame(self.leader, kind, request, body))

    def expire(self, now: float) -> None:
        """Answer what is past its deadline: unknown when a copy may have been carried out, else rejected."""
        self._now = now
        if self.busy:
            self.breaker.look(now)
        if now < self._first_deadline:
            return
        items = [item for mine in self._of.values() for item in mine]
        for item in items:
            self._expire(item, now)
        for item in items:
            if item.done:
                self.lanes[item.kind].remove(item)
        self._first_deadline = min((item.deadline for item in items if not item.done), default=inf)

    def _expire(self, item: Item, now: float) -> None:
        if item.deadline > now:
            return
        if item.copies:
            text = f"group {self.group} did not answer in time; send the same operations again under their numbers"
            self._finish(item, None, Refusal(Code.OUTCOME_UNKNOWN, text))
        elif self.leader:
            self._finish(item, None, self.lanes[item.kind].overdue(item))
        else:
            text = f"group {self.group} has no leader that could be reached in time"
            self._finish(item, None, Refusal(Code.UNAVAILABLE, text, int(1000 * RETRY_S)))

    def drop_caller(self, caller: object) -> None:
        """Nobody waits for these answers any more; what has left is not called back."""
        for item in self._of.pop(caller, ()):
            item.done = True
            self.lanes[item.kind].remove(item)

    @property
    def busy(self) -> bool:
        """Whether anything waits or is in flight, be it that nobody waits for its answer any more."""
        return bool(self._flights or self._of)

    def _land(self, request: int, *, answered: bool = False) -> Flight | None:
        flight = self._flights.pop(request, None)
        if flight is not None:
            lane = self.lanes[flight.kind]
            lane.frames -= 1
            if answered:
                lane.limit.answered(flight.launch, self._now, backlog=len(lane) > 0)
            else:
                lane.limit.back(flight.launch)
            lane.settle()
        return flight

    def _recall(self, which: Callable[[Flight], bool]) -> None:
        for request in [request for request, flight in self._flights.items() if which(flight)][::-1]:
            flight = self._land(request)
            assert flight is not None
            self._requeue(flight)

    def _requeue(self, flight: Flight) -> None:
        """To the front, in the order they had, as far as the budget for sending again goes."""
        again: list[Item] = []
        for item in flight.items:
            if item.done:
                continue
            if self._budget.take(self._now):
                again.append(item)
            elif item.copies:
                text = f"{self._too_often}; send the same operations again under their numbers"
                self._finish(item, None, Refusal(Code.OUTCOME_UNKNOWN, text, _PAUSE_MS))
            else:
                self._finish(item, None, Refusal(Code.UNAVAILABLE, self._too_often, _PAUSE_MS))
        self._put_back(again)

    def _put_back(self, items: list[Item]) -> None:
        for item in reversed(items):
            self.lanes[item.kind].put_back(item)

    def _finish(self, item: Item, answers: bytes | None, refusal: Refusal | None = None) -> None:
        if not item.done:
            item.done = True
            if refusal is not None:
                self.refusals[refusal.code] += item.operations
            mine = self._of.get(item.caller)
            if mine is not None and item in mine:
                del mine[item]
                if not mine:
                    del self._of[item.caller]
            self.outcomes.append(Outcome(item, answers, refusal))


def _array_header(count: int) -> bytes:
    """msgpack's header of an array: the frame is put together from sections encoded before."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big")
