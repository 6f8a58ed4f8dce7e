"""The way of batches to one group: gathered while the window is full, sent until answered, given up in time.

A written batch keeps its numbers and its bytes through every copy, so that any hop may lose or repeat any of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

import msgspec

from holdfast.wire.errors import Code, HoldfastError, InvalidArgument, OutcomeUnknown, Throttled, Unavailable
from holdfast.wire.exempt import is_exempt
from holdfast.wire.frames import Answers, Options, Section, Status, decode_answers, encode
from holdfast.wire.limits import DEADLINE_MS_MAX
from holdfast.wire.messages import Msg, Refusal, Request

from .batch import NOBODY, RETRY_MS_MAX, Batch, Caller
from .post import Post

SECTIONS_IN_FLIGHT_MAX: Final = 2
"""A second one leaves when it is full: else it would cut the same operations into smaller sections, and every entry
costs three nodes as much as a hundred operations (loadtests/RESULTS.md). Nagle's rule, RFC 896."""
OUT_LONG_MS: Final = 500.0
"""Or when the first has been out for so long that it may never be answered: keepalives must not wait for it."""
PATIENCE_MS_MIN: Final = 100.0
OVERDUE_MS: Final = 2000.0
"""A router answers within the patience it was given; one that has not done so for this much longer never will."""
RETRY_MS: Final = 10.0
SHARED_PATIENCE: Final = 8
"""A batch that waits takes newcomers for this fraction of their patience only, for they share its deadline."""
THROTTLE_JITTER: Final = 0.25
"""Who is told to come again in a second comes after 1 to 1.25: callers told the same do not come all at once."""
THROTTLE_BACKOFF_MS: Final = 5.0
THROTTLE_BACKOFF_MS_MAX: Final = 100.0
"""And up to so much later for each time it came: others, too, took what it was told of."""

_UNREGISTERED = int(Status.UNREGISTERED)
_MOVED = int(Status.MOVED)
_AGAIN = int(Status.AGAIN)
_FATAL: Final = frozenset(
    {
        *(Code.BAD_MESSAGE, Code.TOO_LARGE, Code.VERSION, Code.UNAUTHENTICATED, Code.WRONG_CLUSTER, Code.INVALID),
        Code.FORBIDDEN,
    }
)
"""Refusals that the same bytes would get again."""
_FOR_OTHERS: Final = frozenset({Code.OVERLOADED, Code.UNAVAILABLE})
"""Refusals that may be of a part of the section only."""
_ELSEWHERE: Final = frozenset({Code.MOVED, Code.NO_SUCH_GROUP})


class Lane:
    """Reads; they change nothing, need no numbers, and are dropped when patience ends."""

    message: int = Msg.READ

    def __init__(self, post: Post, group: int) -> None:
        self._post = post
        self.group = group
        self.client = 0
        """This process's number in the group; 0 while it has none."""
        self._queue: deque[Batch] = deque()
        """Not yet sent, oldest first."""
        self._open: Batch | None = None
        """The youngest of the queue while it takes operations."""
        self._urgent: deque[Batch] = deque()
        """Likewise, of operations that are never refused for load, while the others are held back."""
        self._open_urgent: Batch | None = None
        self._free_ms = 0.0
        """Until then nothing new leaves but what is urgent, for the tenant's quota is used up; 0: it is not."""
        self._throttle: Refusal | None = None
        """Why."""
        self._in_flight: dict[int, Batch] = {}
        self._resend: list[Batch] = []

    @property
    def busy(self) -> bool:
        """Whether an answer is owed to us."""
        return bool(self._in_flight)

    @property
    def waiting(self) -> bool:
        """Whether something has yet to be sent for the first time."""
        return bool(self._queue or self._urgent)

    def call(
        self,
        caller: Caller,
        kind: int,
        name: str = "",
        lease: int = 0,
        token: int = 0,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        options: Options | None = None,
    ) -> Batch:
        """Issue one operation; it is the last of the batch returned, and leaves with it: to send is asked for when a
        batch is begun, when it is full, and when there may be room for one that waits."""
        if self._free_ms and is_exempt(kind, options, vouched=self._post.vouched):
            batch = self._open_urgent
            if batch is None or batch.full:
                batch = self._begin_urgent()
        else:
            batch = self._open
            if batch is None or batch.full:
                batch = self._begin()
        batch.add(caller, kind, name, lease, token, ttl_ms, wait_ms, options)
        if batch.full:
            self._post.flush_soon()
        return batch

    def _begin(self) -> Batch:
        now = self._post.clock()
        batch = self._open = Batch(now, now + self._post.timeout_ms)
        self._queue.append(batch)
        self._post.wake(now + self._post.timeout_ms / SHARED_PATIENCE)
        self._post.flush_soon()
        return batch

    def _begin_urgent(self) -> Batch:
        now = self._post.clock()
        batch = self._open_urgent = Batch(now, now + self._post.timeout_ms)
        self._urgent.append(batch)
        self._post.wake(now + self._post.timeout_ms / SHARED_PATIENCE)
        self._post.flush_soon()
        return batch

    # Sending.

    def flush(self, now_ms: float) -> None:
        """Send what the window has room for."""
        if self._resend:
            for batch in [batch for batch in self._resend if batch.resend_ms <= now_ms]:
                if len(self._in_flight) >= SECTIONS_IN_FLIGHT_MAX:
                    break
                self._resend.remove(batch)
                self._send(batch, now_ms)
        if self._urgent:
            self._drain(self._urgent, now_ms)
        if self._free_ms <= now_ms:
            self._free_ms = 0.0
            self._drain(self._queue, now_ms)

    def _drain(self, queue: deque[Batch], now_ms: float) -> None:
        while queue and self._may_leave(queue[0], now_ms) and self._has_room(queue[0]):
            batch = queue.popleft()
            if batch is self._open:
                self._open = None
            elif batch is self._open_urgent:
                self._open_urgent = None
            try:
                self._seal(batch, now_ms)
            except (ValueError, OverflowError) as error:
                # What callers pass is checked before it comes here: this is for what was overlooked.
                self._abandon(batch, InvalidArgument(f"these operations cannot be written: {error}"))
                continue
            self._send(batch, now_ms)

    def _may_leave(self, batch: Batch, now_ms: float) -> bool:
        flying = len(self._in_flight)
        if not flying or flying >= SECTIONS_IN_FLIGHT_MAX:
            return not flying
        return batch.full or now_ms - next(iter(self._in_flight.values())).sent_ms > OUT_LONG_MS

    def _has_room(self, batch: Batch) -> bool:
        return True

    def _seal(self, batch: Batch, now_ms: float) -> None:
        self._encode(batch, now_ms, 0, [0] * len(batch.callers))

    def _encode(self, batch: Batch, now_ms: float, floor: int, seqs: Sequence[int]) -> None:
        batch.client = self.client
        batch.seqs = seqs
        batch.section = encode(
            Section(
                self.client, floor, bytes(batch.kinds), list(seqs), batch.names, batch.leases, batch.tokens, batch.ttls,
                batch.waits, batch.options,
            )
        )  # fmt: skip
        batch.sent_ms = now_ms

    def _send(self, batch: Batch, now_ms: float) -> None:
        batch.attempts += 1
        if batch.attempts == 1:
            self._post.retries.sent()
        if batch.throttled is not None and not batch.maybe:
            # All copies before this one were refused: none can have been carried out.
            batch.sent_ms = now_ms
        left_ms = self._post.timeout_ms if batch.expired else batch.deadline_ms - now_ms
        patience_ms = int(min(max(left_ms, PATIENCE_MS_MIN), DEADLINE_MS_MAX))
        batch.resend_ms = now_ms + patience_ms + OVERDUE_MS
        body = encode(Request(patience_ms, msgspec.Raw(batch.section)))
        self._in_flight[self._post.transmit(self, self.message, self.group, body)] = batch

    # Receiving.

    def answered(self, request: int, body: bytes) -> None:
        # First: what cannot be read ends the connection, and the batch must be there to be sent over the next.
        answers = decode_answers(body)
        batch = self._in_flight.pop(request, None)
        if batch is None:
            return
        if len(answers.statuses) == len(batch.callers):
            self._hand_out(batch, answers)
        else:
            self._abandon(batch, OutcomeUnknown("the answer does not fit the question"))
        # Last: who was answered runs first, and what it issues then leaves with what waited.
        if self.waiting or self._resend:
            self._post.flush_soon()

    def _hand_out(self, batch: Batch, answers: Answers) -> None:
        self._forget(batch)
        if answers.statuses and answers.statuses[0] == _UNREGISTERED:
            self._unregistered(batch)
        details, sent_ms = answers.details, batch.sent_ms
        statuses, tokens, deadlines = answers.statuses, answers.tokens, answers.deadlines
        for at, (caller, kind, status, token, deadline, seq) in enumerate(
            zip(batch.callers, batch.kinds, statuses, tokens, deadlines, batch.seqs, strict=True)
        ):
            if status == _AGAIN:
                self._again(batch, at)
            else:
                caller.answered(kind, status, token, deadline, details.get(at) if details else None, seq, sent_ms)

    def _again(self, batch: Batch, at: int) -> None:
        """The group had no room for this read beside others; patience goes on from when it was first asked."""
        if self._open is None or self._open.deadline_ms != batch.deadline_ms or self._open.full:
            self._open = Batch(batch.begun_ms, batch.deadline_ms)
            self._queue.append(self._open)
            self._post.flush_soon()
        self._open.add_from(batch, at)

    def _forget(self, batch: Batch) -> None:
        """The batch has been answered, or certainly never will have happened."""

    def _unregistered(self, batch: Batch) -> None:
        """The group does not know the client that sent the batch."""

    def refused(self, request: int, refusal: Refusal) -> None:
        batch = self._in_flight.pop(request, None)
        if batch is None:
            return
        if self.waiting or self._resend:
            self._post.flush_soon()
        code = refusal.code
        self._post.trouble = refusal.message
        batch.throttled = None
        if code == Code.THROTTLED:
            self._throttled(batch, refusal)
            return
        if code == Code.OUTCOME_UNKNOWN:
            batch.maybe = True
        elif code in _FATAL and not batch.maybe:
            self._abandon(batch, refusal.error())
            return
        elif code in _ELSEWHERE and not batch.maybe:
            self._forget(batch)
            for at, (caller, kind) in enumerate(zip(batch.callers, batch.kinds, strict=True)):
                caller.answered(kind, _MOVED, 0, 0, None, batch.seqs[at], batch.sent_ms)
            return
        if batch.expired and not batch.maybe:
            # No copy did anything or will, and patience was over before.
            self._abandon(batch, self._impatience(batch))
            return
        if code in _FOR_OTHERS:
            # Load and a silent meta group refuse none of what lets go or keeps alive, but only what it travelled with.
            self._part(batch)
            if batch.idle and not batch.maybe:
                self._abandon(batch, self._impatience(batch))
                return
        pause_ms = min(RETRY_MS * 2 ** min(batch.attempts, 10), RETRY_MS_MAX)
        pause_ms = refusal.retry_after_ms + pause_ms * self._post.rng.random()
        now_ms = self._post.clock()
        self._send_at(batch, now_ms + max(pause_ms, self._post.retries.spend(now_ms)))

    def _send_at(self, batch: Batch, due_ms: float) -> None:
        batch.resend_ms = due_ms
        self._resend.append(batch)
        self._post.wake(batch.resend_ms)

    # Throttled.

    def hold_back(self, refusal: Refusal) -> None:
        """A quota is used up: what is new waits, but not what is never refused."""
        now_ms = self._post.clock()
        self._throttle = refusal
        self._free_ms = max(self._free_ms, now_ms + refusal.retry_after_ms)
        self._post.wake(self._free_ms)
        for batch in list(self._queue):
            for at in batch.exempt(self._post.vouched):
                if self._open_urgent is None or self._open_urgent.full:
                    self._begin_urgent()
                assert self._open_urgent is not None
                self._open_urgent.add_from(batch, at)
                batch.take_back(at)
            if batch.idle:
                self._queue.remove(batch)
                if batch is self._open:
                    self._open = None

    def _throttled(self, batch: Batch, refusal: Refusal) -> None:
        """What is never refused goes on at once, apart; the rest when it was told to."""
        self.hold_back(refusal)
        batch.throttled = refusal
        self._part(batch)
        now_ms = self._post.clock()
        pause_ms = float(refusal.retry_after_ms)
        left_ms = batch.deadline_ms - PATIENCE_MS_MIN - now_ms
        if not batch.maybe and (batch.expired or pause_ms >= left_ms or batch.idle):
            self._abandon(batch, self._impatience(batch))
            return
        jitter_ms = THROTTLE_JITTER * pause_ms + min(THROTTLE_BACKOFF_MS * batch.attempts, THROTTLE_BACKOFF_MS_MAX)
        jitter_ms *= self._post.rng.random()
        self._send_at(batch, now_ms + (pause_ms + jitter_ms if pause_ms + jitter_ms < left_ms else pause_ms))

    def _part(self, batch: Batch) -> None:
        """Send the operations of a refused batch that are never refused in a section of their own, under the same
        numbers. When a copy of the batch may have been carried out, they stay in it too, and change nothing there."""
        apart = batch.exempt(self._post.vouched)
        if not apart or len(apart) == len(batch.callers) or batch.client != self.client:
            return
        part = Batch(batch.begun_ms, batch.deadline_ms)
        for at in apart:
            part.add_from(batch, at)
            batch.callers[at] = NOBODY
        part.expired, part.maybe = batch.expired, batch.maybe
        self._reseal(part, [batch.seqs[at] for at in apart], batch.sent_ms)
        if not batch.maybe and not batch.idle:
            self._forget(batch)
            self._reseal(batch, batch.shrink(), batch.sent_ms)
        self._resend.insert(0, part)
        self._post.flush_soon()

    def _reseal(self, batch: Batch, seqs: list[int], sent_ms: float) -> None:
        """What was sealed as a part of a larger one."""
        self._encode(batch, sent_ms, 0, seqs)

    def _abandon(self, batch: Batch, error: HoldfastError) -> None:
        """The batch will not be sent again."""
        self._forget(batch)
        batch.expired = True
        for caller, kind in zip(batch.callers, batch.kinds, strict=True):
            caller.failed(kind, error)

    # Time and trouble.

    def expire(self, now_ms: float) -> None:
        """Tell the callers whose patience is over."""
        begun_ms = now_ms - self._post.timeout_ms / SHARED_PATIENCE
        if self._open is not None and self._open.begun_ms <= begun_ms:
            self._open = None
        if self._open_urgent is not None and self._open_urgent.begun_ms <= begun_ms:
            self._open_urgent = None
        for queue, until_ms in ((self._queue, max(now_ms, self._free_ms)), (self._urgent, now_ms)):
            for batch in [batch for batch in queue if batch.deadline_ms <= until_ms]:
                queue.remove(batch)
                if batch is self._open:
                    self._open = None
                if batch is self._open_urgent:
                    self._open_urgent = None
                self._abandon(batch, self._impatience(batch))
        for batch in [batch for batch in self._resend if not batch.expired and batch.deadline_ms <= now_ms]:
            if not batch.maybe:
                self._resend.remove(batch)
                self._abandon(batch, self._impatience(batch))
            else:
                self._give_up(batch)
        for batch in [b for b in self._in_flight.values() if not b.expired and b.deadline_ms <= now_ms]:
            self._give_up(batch)
        overdue = [request for request, batch in self._in_flight.items() if batch.resend_ms <= now_ms]
        self._lost([self._in_flight.pop(request) for request in overdue])

    def _give_up(self, batch: Batch) -> None:
        """Patience is over while a copy may be under way. A read may as well have been lost."""
        self._resend = [other for other in self._resend if other is not batch]
        self._in_flight = {request: other for request, other in self._in_flight.items() if other is not batch}
        self._abandon(batch, self._impatience(batch))

    def _impatience(self, batch: Batch) -> HoldfastError:
        """What callers of a batch of which no copy did anything are told when they wait no longer."""
        throttle = batch.throttled or (self._throttle if self._free_ms and not batch.sent_ms else None)
        if throttle is None:
            return Unavailable(f"no answer within {self._post.timeout_ms / 1000:g} s: {self._post.trouble}")
        left_ms = max(int(self._free_ms - self._post.clock()), 1)
        return Throttled(throttle.message, left_ms, throttle.quota, throttle.limit)

    def disconnected(self) -> None:
        """What was under way is sent again, over the next connection."""
        flying, self._in_flight = self._in_flight, {}
        self._lost(flying.values())

    def _lost(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            batch.maybe = True
            batch.resend_ms = 0.0
            self._resend.append(batch)

    def callers(self) -> list[Caller]:
        """Whoever waits for an answer."""
        batches = (*self._in_flight.values(), *self._resend, *self._urgent, *self._queue)
        return [caller for batch in batches for caller in batch.callers]

    def close(self, error: HoldfastError) -> None:
        """Nothing is sent any more. What was sent may have been carried out; ``error`` is what became of the rest."""
        sent, unsent = [*self._in_flight.values(), *self._resend], [*self._urgent, *self._queue]
        self._in_flight, self._resend, self._queue, self._urgent = {}, [], deque(), deque()
        self._open = self._open_urgent = None
        for batch in sent:
            self._abandon(batch, OutcomeUnknown(f"{error} before the answer came"))
        for batch in unsent:
            self._abandon(batch, error)

    def next_due_ms(self) -> float:
        due = min((batch.deadline_ms for batch in (*self._urgent, *self._queue)), default=inf)
        if self._free_ms and self._queue:
            due = min(due, self._free_ms)
        for batch in (self._open, self._open_urgent):
            if batch is not None:
                due = min(due, batch.begun_ms + self._post.timeout_ms / SHARED_PATIENCE)
        for batch in (*self._resend, *self._in_flight.values()):
            if not batch.expired:
                due = min(due, batch.deadline_ms)
        due = min(due, *(batch.resend_ms for batch in self._in_flight.values()), inf)
        if self._post.connected and self._resend and len(self._in_flight) < SECTIONS_IN_FLIGHT_MAX:
            due = min(due, *(batch.resend_ms for batch in self._resend))
        return due
