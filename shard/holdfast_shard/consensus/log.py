"""The log in memory, mirrored to the journal: what the library is shown instead of its own journal.

Replaces `createJournal` and the library's journal classes. Entries are (command, index, term); a command is one type
byte and the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, overload

from .machine_interface import LogDamaged, ReplicaHalted

if TYPE_CHECKING:
    from .journal import Journal, RecoveredGroup

Entry = tuple[bytes, int, int]

REGULAR: Final = b"\x00"
NO_OP: Final = b"\x01"
ENTRY_OVERHEAD_BYTES: Final = 160
"""What an entry costs in memory beside its bytes: tuple, numbers, write number."""

REPLACES: Final = ("createJournal", "_SyncObj__raftLog", "_SyncObj__deleteEntriesFrom", "_SyncObj__deleteEntriesTo")


def known_type(command: bytes) -> bool:
    """Types 2 (membership) and 3 (version) of the library are refused, like anything unknown."""
    return command[:1] == REGULAR or command == NO_OP


class Log:
    """One group's log.

    Invariants: indices are contiguous; `_entries[0]` is never sent or applied again, it only anchors matching (it is
    the snapshot's last entry, or the first entry of the tail kept behind it); `_writes` runs parallel to `_entries`;
    nothing at or below `commit_index` is ever truncated.
    """

    def __init__(
        self, group: int, journal: Journal, recovered: RecoveredGroup | None, snapshot: tuple[int, int] | None
    ) -> None:
        self._group = group
        self._journal = journal
        self.term = recovered.term if recovered else 0
        self.voted_for = recovered.voted_for if recovered else None
        index, term = snapshot or (1, 0)
        self.commit_index = index
        self.on_vote: Callable[[], None] = lambda: None
        """Told whenever a term or vote was written."""
        self.vote_write = 0
        """Write number of the newest term and vote; nothing that depends on them may leave before it is durable."""
        self.on_truncate: Callable[[int], None] = lambda last: None
        """Told the new last index whenever entries are cut off."""
        entries = [(command, i, t) for i, t, command in recovered.entries] if recovered else []
        self._entries: list[Entry] = self._aligned(entries, index, term)
        if recovered is not None and recovered.released > index:
            raise LogDamaged(
                f"group {group}: entries up to {recovered.released} were let go for a snapshot, but the newest that "
                f"can be read ends at {index}"
            )
        self._writes = [0] * len(self._entries)
        self.size_bytes = sum(len(entry[0]) + ENTRY_OVERHEAD_BYTES for entry in self._entries)

    def _aligned(self, entries: list[Entry], index: int, term: int) -> list[Entry]:
        anchor = (NO_OP, index, term)
        if entries and entries[0][1] > index + 1:
            raise LogDamaged(
                f"group {self._group}: the journal begins at {entries[0][1]} but the snapshot ends at {index}"
            )
        if entries and entries[0][1] == index + 1:
            return [anchor, *entries]
        at = index - entries[0][1] if entries else 0
        if at < len(entries) and entries[at][2] == term:
            return entries
        # Stopped between installing a snapshot and noting it in the journal: the snapshot supersedes what that holds.
        if entries or index > 1:
            self._journal.append_start(self._group, index, term)
        return [anchor]

    @property
    def first_index(self) -> int:
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        return self._entries[-1][1]

    @property
    def last_term(self) -> int:
        return self._entries[-1][2]

    def term_at(self, index: int) -> int | None:
        """None where the log holds no such index."""
        at = index - self._entries[0][1]
        return self._entries[at][2] if 0 <= at < len(self._entries) else None

    def entry(self, index: int) -> Entry:
        at = index - self._entries[0][1]
        assert at >= 0, "entry below the log"
        return self._entries[at]

    def first_of_term(self, index: int, floor: int) -> int:
        """The lowest index, not below `floor`, from which all entries up to `index` are of that entry's term."""
        first = self._entries[0][1]
        term = self._entries[index - first][2]
        while index > floor and index > first and self._entries[index - 1 - first][2] == term:
            index -= 1
        return index

    def durable_from(self, index: int, write: int) -> int:
        """The last index reached from `index` over entries whose write number is at most `write`."""
        writes = self._writes
        at = index - self._entries[0][1] + 1
        while at < len(writes) and writes[at] <= write:
            at += 1
        return at - 1 + self._entries[0][1]

    def restart_at(self, index: int, term: int) -> None:
        """A snapshot at (index, term) was installed: keep what follows it if it is part of it, else nothing."""
        assert index > self.commit_index
        self._journal.append_start(self._group, index, term)
        if self.term_at(index) == term:
            self.drop_before(index)
        else:
            self._entries = [(NO_OP, index, term)]
            self._writes = [0]
            self.size_bytes = ENTRY_OVERHEAD_BYTES
            self.on_truncate(index)
        self.commit_index = index

    def drop_before(self, index: int) -> None:
        """Forget entries below `index`, which becomes the anchor."""
        count = index - self._entries[0][1]
        if count <= 0:
            return
        assert index <= max(self.commit_index, self.last_index)
        self.size_bytes -= sum(len(entry[0]) + ENTRY_OVERHEAD_BYTES for entry in self._entries[:count])
        del self._entries[:count]
        del self._writes[:count]

    def tail_start(self, index: int, tail_bytes: int) -> int:
        """The lowest index such that entries from it up to `index` stay within `tail_bytes`; at most `index`."""
        first = self._entries[0][1]
        kept = 0
        while index > first:
            kept += len(self._entries[index - 1 - first][0]) + ENTRY_OVERHEAD_BYTES
            if kept > tail_bytes:
                break
            index -= 1
        return index

    def bytes_after(self, index: int) -> int:
        at = index - self._entries[0][1] + 1
        return sum(len(entry[0]) + ENTRY_OVERHEAD_BYTES for entry in self._entries[max(at, 0) :])

    # What the library calls.

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> list[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        return self._entries[at]

    def add(self, command: bytes, index: int, term: int) -> None:
        assert index == self._entries[-1][1] + 1, "a log has no gaps"
        self._writes.append(self._journal.append_entry(self._group, index, term, command))
        self._entries.append((command, index, term))
        self.size_bytes += len(command) + ENTRY_OVERHEAD_BYTES

    def deleteEntriesFrom(self, at: int) -> None:  # noqa: N802 - the library's name
        index = at + self._entries[0][1]
        if index <= self.commit_index:
            raise ReplicaHalted(f"group {self._group}: asked to truncate committed entry {index}")
        if index > self._entries[-1][1]:
            return
        self._journal.append_truncate(self._group, index)
        self.size_bytes -= sum(len(entry[0]) + ENTRY_OVERHEAD_BYTES for entry in self._entries[at:])
        del self._entries[at:]
        del self._writes[at:]
        self.on_truncate(index - 1)

    def setCurrentTerm(self, term: int, voted_for: int | None) -> None:  # noqa: N802
        assert term >= self.term, "terms never fall"
        self.vote_write = self._journal.append_vote(self._group, term, voted_for)
        self.term = term
        self.voted_for = voted_for
        self.on_vote()

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self.term

    def getVotedForNodeId(self) -> int | None:  # noqa: N802
        return self.voted_for

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        assert index >= self.commit_index, "commit never falls"
        self.commit_index = index

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        # The snapshot's: lower, the library walks every index since 1 in one tick; higher, it may commit what is not.
        return self.commit_index

    def onOneSecondTimer(self) -> None:  # noqa: N802
        pass

    def _destroy(self) -> None:
        pass
