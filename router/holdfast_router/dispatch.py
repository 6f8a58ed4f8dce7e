"""Sections in, frames out: one group's queue, window and leader. Sans-io.

What arrives while the window is full leaves together as the next frame. A section may be sent to several leaders in
turn: operations are exactly-once by (client, seq), so sending again is always safe, and saying "rejected" is allowed
only when every copy that left was certainly refused.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from holdfast.wire.errors import Code
from holdfast.wire.frames import decode_raw_list
from holdfast.wire.limits import FRAME_BYTES_MAX, OPERATIONS_PER_FRAME_MAX, SECTIONS_PER_FRAME_MAX
from holdfast.wire.messages import GroupRole, Msg, Refusal

FRAMES_IN_FLIGHT_MAX = 4
QUEUE_BYTES_MAX = 64 << 20
QUEUE_SECTIONS_MAX = 65_536
RETRY_S = 0.02
"""Pause before asking again a leader that refuses and names no other."""
OVERLOAD_RETRY_MS_MIN = 10


@dataclass(slots=True)
class Item:
    """A stamped section under way. ``caller`` and ``request`` say whom to answer."""

    caller: object
    request: int
    kind: int
    body: bytes
    deadline: float
    client: int = 0
    operations: int = 1
    copies: int = 0
    """How many left for a node and were not certainly refused: any of them may have been or be carried out."""
    done: bool = False


@dataclass(slots=True)
class Frame:
    """To be sent to ``node``."""

    node: int
    kind: int
    request: int
    body: bytes


@dataclass(slots=True)
class Outcome:
    item: Item
    answers: bytes | None
    refusal: Refusal | None = None


@dataclass(slots=True)
class _Flight:
    node: int
    term: int
    sent_at: float
    items: list[Item] = field(default_factory=list)


class GroupDispatch:
    def __init__(self, group: int) -> None:
        self.group = group
        self.leader = 0
        """The node that serves the group, 0 when none is known."""
        self.term = 0
        """Highest term in which anybody was seen to serve."""
        self._queues: dict[int, deque[Item]] = {int(Msg.OPS): deque(), int(Msg.READ): deque()}
        self._bytes = 0
        self._flights: dict[int, _Flight] = {}
        self._windows: dict[int, int] = {int(Msg.OPS): 0, int(Msg.READ): 0}
        self._next_request = 1
        self._ask_again_at = 0.0
        self._flight_s = 0.005
        """Smoothed time of a frame, for telling an overloaded caller when to come again."""
        self.frames: list[Frame] = []
        self.outcomes: list[Outcome] = []

    # Input.

    def submit(self, item: Item) -> None:
        queued = sum(len(queue) for queue in self._queues.values())
        if self._bytes + len(item.body) > QUEUE_BYTES_MAX or queued >= QUEUE_SECTIONS_MAX:
            frames_ahead = self._bytes / FRAME_BYTES_MAX + queued / SECTIONS_PER_FRAME_MAX
            wait_ms = int(1000 * self._flight_s * (1 + frames_ahead / FRAMES_IN_FLIGHT_MAX))
            text = f"too much is waiting for group {self.group}"
            self._finish(item, None, Refusal(Code.OVERLOADED, text, max(wait_ms, OVERLOAD_RETRY_MS_MIN)))
            return
        self._queues[item.kind].append(item)
        self._bytes += len(item.body)

    def role(self, sender: int, role: GroupRole) -> None:
        """A node says who leads. Only a leader's own word that it serves counts; a higher term wins."""
        if role.ready and role.node == sender and role.term >= self.term:
            if role.term > self.term or self.leader != sender:
                self._recall(lambda flight: flight.node != sender or flight.term < role.term)
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
            self._requeue(flight)
        self.disconnected(frame.node)

    def answered(self, request: int, body: bytes, now: float) -> None:
        flight = self._land(request)
        if flight is None:
            return
        self._flight_s += (now - flight.sent_at - self._flight_s) / 8
        try:
            answers = decode_raw_list(body)
        except msgspec.DecodeError:
            answers = []
        if len(answers) != len(flight.items):
            self._reject(flight, Refusal(Code.BAD_MESSAGE, "a section of this frame was not understood"))
            return
        for item, answer in zip(flight.items, answers, strict=True):
            self._finish(item, bytes(answer))

    def refused(self, request: int, refusal: Refusal, now: float) -> None:
        flight = self._land(request)
        if flight is None:
            return
        if refusal.code in (Code.NOT_LEADER, Code.OUTCOME_UNKNOWN, Code.NO_SUCH_GROUP, Code.OVERLOADED):
            if refusal.code != Code.OUTCOME_UNKNOWN:
                for item in flight.items:
                    item.copies -= 1
            if refusal.code == Code.OVERLOADED:
                self._ask_again_at = now + refusal.retry_after_ms / 1000
            elif self.leader == flight.node:
                if refusal.leader not in (0, flight.node):
                    self.leader = refusal.leader
                else:
                    # It will say who leads when it knows; should that word be lost, it is asked again.
                    self._ask_again_at = now + RETRY_S
            self._requeue(flight)
            return
        self._reject(flight, refusal)

    def _reject(self, flight: _Flight, refusal: Refusal) -> None:
        """Nothing came of this copy; of an earlier one something may."""
        for item in flight.items:
            if item.copies > 1:
                text = f"{refusal.message}; an earlier copy may have been carried out"
                self._finish(item, None, Refusal(Code.OUTCOME_UNKNOWN, text))
            else:
                self._finish(item, None, refusal)

    # Work.

    def turn(self, now: float) -> None:
        """Close as many frames as the window allows."""
        if not self.leader or now < self._ask_again_at:
            return
        for kind, queue in self._queues.items():
            while queue and self._windows[kind] < FRAMES_IN_FLIGHT_MAX:
                items = self._gather(queue)
                if items:
                    self._send(kind, items, now)

    def _gather(self, queue: deque[Item]) -> list[Item]:
        items: list[Item] = []
        size = operations = 0
        while queue and len(items) < SECTIONS_PER_FRAME_MAX:
            item = queue[0]
            operations += item.operations
            if items and (size + len(item.body) > FRAME_BYTES_MAX - 8 or operations > OPERATIONS_PER_FRAME_MAX):
                break
            queue.popleft()
            self._bytes -= len(item.body)
            if item.done:
                continue
            size += len(item.body)
            items.append(item)
        return items

    def _send(self, kind: int, items: list[Item], now: float) -> None:
        request = self._next_request
        self._next_request = request % 0xFFFFFFFF + 1
        for item in items:
            item.copies += 1
        self._flights[request] = _Flight(self.leader, self.term, now, items)
        self._windows[kind] += 1
        body = _array_header(len(items)) + b"".join([item.body for item in items])
        self.frames.append(Frame(self.leader, kind, request, body))

    def expire(self, now: float) -> None:
        """Answer what is past its deadline: unknown when a copy may have been carried out, else rejected."""
        for kind, queue in self._queues.items():
            for item in queue:
                self._expire(item, now)
            if any(item.done for item in queue):
                self._bytes -= sum(len(item.body) for item in queue if item.done)
                self._queues[kind] = deque(item for item in queue if not item.done)
        for flight in self._flights.values():
            for item in flight.items:
                self._expire(item, now)

    def _expire(self, item: Item, now: float) -> None:
        if item.done or item.deadline > now:
            return
        if item.copies:
            text = f"group {self.group} did not answer in time; send the same operations again under their numbers"
            self._finish(item, None, Refusal(Code.OUTCOME_UNKNOWN, text))
        else:
            text = f"group {self.group} has no leader that could be reached in time"
            self._finish(item, None, Refusal(Code.UNAVAILABLE, text, int(1000 * RETRY_S)))

    def drop_caller(self, caller: object) -> None:
        """Nobody waits for these answers any more; what has left is not called back."""
        for queue in self._queues.values():
            for item in queue:
                if item.caller is caller:
                    item.done = True
        for flight in self._flights.values():
            for item in flight.items:
                if item.caller is caller:
                    item.done = True

    @property
    def busy(self) -> bool:
        return bool(self._flights) or any(self._queues.values())

    def _land(self, request: int) -> _Flight | None:
        flight = self._flights.pop(request, None)
        if flight is not None:
            self._windows[flight.items[0].kind] -= 1
        return flight

    def _recall(self, which: object) -> None:
        assert callable(which)
        for request in [request for request, flight in self._flights.items() if which(flight)][::-1]:
            flight = self._land(request)
            assert flight is not None
            self._requeue(flight)

    def _requeue(self, flight: _Flight) -> None:
        """To the front, in the order they had."""
        for item in reversed(flight.items):
            if not item.done:
                self._queues[item.kind].appendleft(item)
                self._bytes += len(item.body)

    def _finish(self, item: Item, answers: bytes | None, refusal: Refusal | None = None) -> None:
        if not item.done:
            item.done = True
            self.outcomes.append(Outcome(item, answers, refusal))


def _array_header(count: int) -> bytes:
    """msgpack's header of an array: the frame is put together from sections encoded before."""
    if count < 16:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big")
