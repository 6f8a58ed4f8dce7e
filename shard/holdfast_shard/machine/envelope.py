"""What both state machines share: epochs, the group clock, frames of sections, the digest.

``apply`` is a pure function of the state and the entry. An entry's epoch is the Raft term of the log entry itself; the
clock follows the stopwatch of the leader of that term (``docs/design.md``, 5).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from holdfast.wire.frames import Answers, Event, Stamped, decode_frame, encode
from holdfast.wire.limits import READ_BYTES_PER_FRAME_MAX, READ_ROWS_PER_FRAME_MAX

from .entry import EntryResult, parse_entry


class ReadBudget:
    """What the reads of one frame may still look at and show: one request must not keep a group busy for long."""

    __slots__ = ("bytes_left", "rows_left")

    def __init__(self) -> None:
        self.rows_left = READ_ROWS_PER_FRAME_MAX
        self.bytes_left = READ_BYTES_PER_FRAME_MAX

    @property
    def spent(self) -> bool:
        return self.rows_left <= 0 or self.bytes_left <= 0

    @property
    def rows_used(self) -> int:
        return READ_ROWS_PER_FRAME_MAX - self.rows_left


class Envelope(ABC):
    def __init__(self, genesis: bytes) -> None:
        self.applied_index = 0
        self.term = 0
        self.base_ms = 0
        """The clock at the first entry of ``term``."""
        self.clock_ms = 0
        self.digest = blake2b(genesis, digest_size=16).digest()
        """Chained over every entry's bytes and results: equal at equal index on every replica."""
        self.digest_index = 0

    # What a machine is.

    @abstractmethod
    def _advance(self, clock_ms: int) -> None:
        """Time has come to ``clock_ms``: mark what ran out, pass on."""

    @abstractmethod
    def _section(self, stamped: Stamped) -> Answers: ...

    @abstractmethod
    def _finish(self) -> list[Event]:
        """End of an entry: bounded leftovers; the events it caused."""

    @abstractmethod
    def _read(self, stamped: Stamped, budget: ReadBudget) -> Answers: ...

    @abstractmethod
    def knows(self, tenant: int, client: int) -> bool:
        """Whether a client of that tenant has this number."""

    @abstractmethod
    def due_ms(self) -> int | None: ...

    @property
    @abstractmethod
    def backlog(self) -> bool: ...

    @abstractmethod
    def export(self) -> Iterator[bytes]: ...

    @abstractmethod
    def restore(self, chunks: Iterable[bytes]) -> None: ...

    @abstractmethod
    def counts(self) -> dict[str, int]: ...

    # Applying.

    def apply(self, index: int, term: int, payload: bytes | None) -> EntryResult:
        """Apply one log entry, once; ``None`` is the engine's own first entry of a term. Any bytes are safe."""
        if index <= self.applied_index:
            return EntryResult(refused=True)
        self.applied_index = index
        if term > self.term:
            self.term, self.base_ms = term, self.clock_ms
        result = EntryResult() if payload is None else self._apply(term, payload)
        digest = blake2b(self.digest, digest_size=16)
        digest.update(index.to_bytes(8, "little") + term.to_bytes(8, "little"))
        if payload is not None:
            digest.update(payload)
        for answers in result.answers:
            digest.update(answers)
        if result.events:
            digest.update(encode(result.events))
        self.digest, self.digest_index = digest.digest(), index
        return result

    def _apply(self, term: int, payload: bytes) -> EntryResult:
        parsed = parse_entry(payload)
        if parsed is None or parsed[0] != term:
            return EntryResult(refused=True)
        _, elapsed_ms, frames = parsed
        self.clock_ms = self.reading_ms(elapsed_ms)
        self._advance(self.clock_ms)
        answers = [self._frame(frame) for frame in frames]
        return EntryResult(answers, self._finish())

    def _frame(self, frame: bytes) -> bytes:
        try:
            sections = decode_frame(frame)
        except msgspec.DecodeError:
            return encode([])
        return encode([self._section(stamped) for stamped in sections])

    def read(self, frame: bytes, budget: ReadBudget | None = None) -> bytes:
        """Answer a frame of reads; nothing changes. Linearizable when the caller has applied an entry proposed after
        the frame came. ``budget`` has a whole frame's share when it is given, and tells afterwards what was used."""
        budget = budget or ReadBudget()
        try:
            sections = decode_frame(frame)
        except msgspec.DecodeError:
            return encode([])
        return encode([self._read(stamped, budget) for stamped in sections])

    def reading_ms(self, elapsed_ms: int) -> int:
        """What the clock reads when the leader's stopwatch shows ``elapsed_ms``; it never moves back."""
        return max(self.clock_ms, self.base_ms + elapsed_ms)


def whole(stamped: Stamped) -> bool:
    """Whether a section's columns are of one length."""
    section = stamped.section
    count = len(section.kinds)
    return (
        count
        == len(section.seqs)
        == len(section.names)
        == len(section.leases)
        == len(section.tokens)
        == len(section.ttls)
        == len(section.waits)
        and len(stamped.slots) == 2 * count
    )


def all_answered(count: int, status: int) -> Answers:
    """One status for a whole section."""
    return Answers(bytes([status]) * count, [0] * count, [0] * count, {})
