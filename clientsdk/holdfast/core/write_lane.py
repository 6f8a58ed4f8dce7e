"""The way of operations that change something, to one group: numbered, and under way until they are answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from holdfast.wire.errors import OutcomeUnknown
from holdfast.wire.frames import Status
from holdfast.wire.limits import ANSWERS_PER_CLIENT_MAX
from holdfast.wire.messages import Msg

from .batch import Batch
from .lane import Lane
from .post import Post

_UNREGISTERED = int(Status.UNREGISTERED)


class WriteLane(Lane):
    """Operations that change something: numbered without gaps, sent under their numbers until they are answered."""

    message: int = Msg.OPS

    def __init__(self, post: Post, group: int, on_unregistered: Callable[[], None]) -> None:
        super().__init__(post, group)
        self._on_unregistered = on_unregistered
        self.next_seq = 1
        self._unanswered: dict[int, Batch] = {}
        """By first seq, ascending. Invariant: the floor that any section carries is at or below the first of them."""
        self._parts: dict[Batch, None] = {}
        """Unanswered too, and numbered as parts of others."""
        self._pinned: dict[int, None] = {}
        """Answered, but their cancel is not: the floor must not pass them."""

    def registered(self, client: int) -> None:
        """A new number in the group: numbering starts anew. Batches of the number before are answered, or refused."""
        self.client = client
        self.next_seq = 1
        self._unanswered = {}
        self._parts = {}
        self._pinned = {}

    def unregister(self) -> None:
        """The group knows the number no more. What was to be sent under it would mean something else under another."""
        self.registered(0)
        queue = (*self._urgent, *self._queue)
        self._queue, self._urgent, self._open, self._open_urgent = deque(), deque(), None, None
        for batch in queue:
            for caller, kind in zip(batch.callers, batch.kinds, strict=True):
                caller.answered(kind, _UNREGISTERED, 0, 0, None, 0, 0.0)

    @property
    def floor(self) -> int:
        floor = next(iter(self._unanswered), self.next_seq)
        if self._parts:
            floor = min(floor, *(part.seqs[0] for part in self._parts))
        return min(floor, *self._pinned) if self._pinned else floor

    def pin(self, seq: int) -> None:
        self._pinned[seq] = None

    def unpin(self, seq: int) -> None:
        self._pinned.pop(seq, None)

    def is_pinned(self, seq: int) -> bool:
        return seq in self._pinned

    def is_open(self, seq: int) -> bool:
        """Whether the answer of ``seq`` may still come."""
        return seq >= self.floor

    def _has_room(self, batch: Batch) -> bool:
        if self.client == 0:
            return False
        return self.next_seq + len(batch.callers) <= self.floor + ANSWERS_PER_CLIENT_MAX

    def _seal(self, batch: Batch, now_ms: float) -> None:
        first = self.next_seq
        after = first + len(batch.callers)
        self._encode(batch, now_ms, self.floor, range(first, after))
        self.next_seq = after
        self._unanswered[first] = batch

    def _reseal(self, batch: Batch, seqs: list[int], sent_ms: float) -> None:
        self._encode(batch, sent_ms, min(self.floor, seqs[0]), seqs)
        self._parts[batch] = None

    def _forget(self, batch: Batch) -> None:
        if batch in self._parts:
            del self._parts[batch]
        elif batch.sent_ms and batch.client == self.client:
            self._unanswered.pop(batch.seqs[0], None)

    def _unregistered(self, batch: Batch) -> None:
        if batch.client == self.client:
            self._on_unregistered()

    def _give_up(self, batch: Batch) -> None:
        """It may have happened: it stays under way under its numbers, until some copy is answered."""
        batch.expired = True
        error = OutcomeUnknown(f"no answer within {self._post.timeout_ms / 1000:g} s: {self._post.trouble}")
        for caller, kind in zip(batch.callers, batch.kinds, strict=True):
            caller.failed(kind, error)
