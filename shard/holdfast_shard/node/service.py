"""What a leader does for one group: frames in, entries out, answers back. Sans-io.

Frames that arrive while entries are under way leave together as the next entry. Every frame ends in exactly one reply:
its answers, a refusal that is certain (nothing happened), or silence when its outcome cannot be known here, which the
router resolves by sending the frame again. What nobody waits for any more when its turn comes is not proposed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast.wire.errors import Code
from holdfast.wire.frames import Event, encode
from holdfast.wire.limits import ENTRY_BYTES_MAX, READ_ROWS_PER_FRAME_MAX
from holdfast.wire.messages import Refusal

from ..consensus import Applied, NotLeader, Proposal
from ..machine import EntryResult, LockMachine, Machine, ReadBudget, build_entry
from .frame import Frame
from .watches import Watches

ENTRIES_IN_FLIGHT_MAX = 4
PENDING_BYTES_MAX = 32 << 20
PENDING_FRAMES_MAX = 16_384
PENDING_RETRY_MS = 100
"""What a full queue takes to empty at the slowest disk it is sized for."""

READ_RETRY_MS = 100
_NO_ANSWERS = encode([])

log = logging.getLogger("holdfast.node")


class Replica(Protocol):
    @property
    def ready(self) -> bool: ...
    @property
    def proposes(self) -> bool: ...
    @property
    def leader(self) -> int | None: ...
    @property
    def term(self) -> int: ...
    @property
    def applied_index(self) -> int: ...
    def elapsed_ms(self, now: float) -> int: ...


@dataclass(frozen=True, slots=True)
class Reply:
    caller: object
    request: int
    answers: bytes | None
    refusal: Refusal | None = None


@dataclass(slots=True)
class _Flight:
    term: int
    frames: list[Frame]
    reads: list[Frame]


class GroupService:
    def __init__(
        self, group: int, replica: Replica, machine: Machine, propose: Callable[[int, bytes, float], Proposal]
    ) -> None:
        self.group = group
        self.machine = machine
        self._replica = replica
        self._propose = propose
        self.watches = Watches(group, machine) if isinstance(machine, LockMachine) else None
        self._pending: deque[Frame] = deque()
        self._pending_bytes = 0
        self._reads: deque[Frame] = deque()
        self._reads_bytes = 0
        self._readable: deque[Frame] = deque()
        """Reads whose entry was applied: any state from now on answers them."""
        self._flights: dict[int, _Flight] = {}
        """By index, ascending: what was proposed here and is not resolved."""
        self.replies: list[Reply] = []
        self.events: list[Event] = []

    @property
    def leads(self) -> bool:
        """Whether what is written here now would be proposed."""
        return self._replica.proposes

    @property
    def office(self) -> int | None:
        """The term in which this replica leads and serves; None when it does not."""
        return self._replica.term if self._replica.ready else None

    # Input.

    def write(self, frame: Frame) -> None:
        if not self._replica.proposes:
            self._refuse(frame)
        elif self._pending_bytes + len(frame.body) > PENDING_BYTES_MAX or len(self._pending) >= PENDING_FRAMES_MAX:
            self._reply(frame, Refusal(Code.OVERLOADED, f"group {self.group} has too much waiting", PENDING_RETRY_MS))
        else:
            self._pending.append(frame)
            self._pending_bytes += len(frame.body)

    def read(self, frame: Frame) -> None:
        if not self._replica.proposes:
            self._refuse(frame)
        elif (
            self._reads_bytes + len(frame.body) > PENDING_BYTES_MAX
            or len(self._reads) + len(self._readable) >= PENDING_FRAMES_MAX
        ):
            self._reply(frame, Refusal(Code.OVERLOADED, f"group {self.group} has too much waiting", PENDING_RETRY_MS))
        else:
            self._reads.append(frame)
            self._reads_bytes += len(frame.body)

    def applied(self, entry: Applied) -> None:
        """The next entry of the log was applied here."""
        flight = self._flights.pop(entry.index, None)
        result = entry.result
        assert isinstance(result, EntryResult)
        if self._replica.ready:
            self.events += result.events
        if flight is None:
            return
        if flight.term != entry.term or result.refused:
            # The index was lost to another term: certainly nothing of these frames was or will be applied from it.
            for frame in (*flight.frames, *flight.reads):
                self._refuse(frame)
            return
        for frame, answers in zip(flight.frames, result.answers, strict=True):
            if frame.caller is not None:
                self.replies.append(Reply(frame.caller, frame.request, frame.complete(answers)))
        if self._replica.ready:
            self._readable += flight.reads
        else:
            for frame in flight.reads:
                self._refuse(frame)

    # Work.

    def turn(self, now: float) -> None:
        """Propose what there is to propose; refuse it all when this replica does not lead. Answer some reads."""
        if self._readable:
            self._serve_reads(now)
        if self._flights:
            self._skip_covered()
        if not self._replica.proposes:
            self._refuse_pending()
            return
        while len(self._flights) < ENTRIES_IN_FLIGHT_MAX and self._due(now):
            try:
                self._close_entry(now)
            except NotLeader:
                self._refuse_pending()
                return

    def _due(self, now: float) -> bool:
        if self._pending or self._reads:
            return True
        if self._flights:
            return False
        return self.machine.backlog or self.due_in_ms(now) == 0

    def _serve_reads(self, now: float) -> None:
        """A frame's reads or several small ones: whoever only locks must not wait for all that others look at."""
        rows = 0
        while self._readable and rows < READ_ROWS_PER_FRAME_MAX:
            frame = self._awaited(self._readable.popleft(), now)
            if frame is None:
                continue
            budget = ReadBudget()
            try:
                answers = frame.complete(self.machine.read(frame.body, budget))
                self.replies.append(Reply(frame.caller, frame.request, answers))
            except Exception:
                # It changed nothing, and another leader would fare no better: nobody must die of it.
                log.exception("a read failed", extra={"group": self.group})
                self._reply(frame, Refusal(Code.UNAVAILABLE, "this read failed", READ_RETRY_MS))
            rows += budget.rows_used

    def wakeup_in_ms(self, now: float) -> int | None:
        """Milliseconds until the next turn is due; None when only input or an applied entry makes one due."""
        waiting = bool(self._pending or self._reads)
        told = self.watches is None or not self.watches.pending
        if (
            self._readable
            or not told
            or (waiting and (not self._replica.proposes or len(self._flights) < ENTRIES_IN_FLIGHT_MAX))
        ):
            return 0
        if self._flights or not self._replica.proposes:
            return None
        return 0 if self.machine.backlog else self.due_in_ms(now)

    def due_in_ms(self, now: float) -> int | None:
        """Milliseconds until something of the group runs out; None when nothing will."""
        due = self.machine.due_ms()
        if due is None:
            return None
        return max(due - self.machine.reading_ms(self._replica.elapsed_ms(now)), 0)

    def _awaited(self, frame: Frame, now: float) -> Frame | None:
        """What somebody still waits for; None when that is nothing, and the frame is answered."""
        frame = frame.awaited(now)
        if not frame.is_void:
            return frame
        self.replies.append(Reply(frame.caller, frame.request, frame.complete(_NO_ANSWERS)))
        return None

    def _gather(self, now: float) -> list[Frame]:
        """The next entry's frames."""
        frames: list[Frame] = []
        size = 0
        pending = self._pending
        while pending and (not frames or size + len(pending[0].body) <= ENTRY_BYTES_MAX):
            came = pending.popleft()
            self._pending_bytes -= len(came.body)
            frame = self._awaited(came, now)
            if frame is not None:
                size += len(frame.body)
                frames.append(frame)
        return frames

    def _close_entry(self, now: float) -> None:
        asked = bool(self._pending or self._reads)
        frames = self._gather(now)
        reads = [kept for frame in self._reads if (kept := self._awaited(frame, now)) is not None]
        self._reads, self._reads_bytes = deque(), 0
        if asked and not frames and not reads:
            return
        # The stopwatch is read here, after the last operation of the entry has arrived (docs/design.md, 5).
        entry = build_entry(self._replica.term, self._replica.elapsed_ms(now), [frame.body for frame in frames])
        try:
            proposal = self._propose(self.group, entry, now)
        except NotLeader:
            for frame in (*frames, *reads):
                self._refuse(frame)
            raise
        stale = self._flights.pop(proposal.index, None)
        if stale is not None:
            # Of an earlier office: what was proposed at this index then is in no log that could still win.
            for frame in (*stale.frames, *stale.reads):
                self._refuse(frame)
        self._flights[proposal.index] = _Flight(proposal.term, frames, reads)

    def _skip_covered(self) -> None:
        """A snapshot of another leader covered some of our entries: nobody here can say what became of them."""
        while self._flights:
            index = next(iter(self._flights))
            if index > self._replica.applied_index:
                return
            flight = self._flights.pop(index)
            for frame in (*flight.frames, *flight.reads):
                self._reply(frame, Refusal(Code.OUTCOME_UNKNOWN, f"group {self.group} changed its leader"))

    def _refuse_pending(self) -> None:
        for frame in (*self._pending, *self._reads):
            self._refuse(frame)
        self._pending.clear()
        self._pending_bytes = 0
        self._reads.clear()
        self._reads_bytes = 0

    def _refuse(self, frame: Frame) -> None:
        leader = self._replica.leader or 0
        self._reply(frame, Refusal(Code.NOT_LEADER, f"this node does not lead group {self.group}", 0, leader))

    def _reply(self, frame: Frame, refusal: Refusal) -> None:
        if frame.caller is not None:
            self.replies.append(Reply(frame.caller, frame.request, None, refusal))

    def drop_caller(self, caller: object) -> None:
        """The caller is gone: what it sent and was not proposed is not proposed any more."""
        kept = [frame for frame in self._pending if frame.caller is not caller]
        self._pending = deque(kept)
        self._pending_bytes = sum(len(frame.body) for frame in kept)
        self._reads = deque(frame for frame in self._reads if frame.caller is not caller)
        self._reads_bytes = sum(len(frame.body) for frame in self._reads)
        self._readable = deque(frame for frame in self._readable if frame.caller is not caller)
        if self.watches is not None:
            self.watches.drop_caller(caller)
