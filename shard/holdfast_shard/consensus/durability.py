"""What is on this replica's disk, and what may therefore be claimed.

Replaces the library's assumption that an appended entry is durable. Durability is counted by the number of the write,
not by log index, because a truncated index comes back with other content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .log import Log

REPLACES: Final = ("_SyncObj__sendNextNodeIdx", "_SyncObj__raftMatchIndex")


class Durability:
    """Invariants: `index` is durable here; `matched` is what of this log is the leader's of `term`, in `term` alone."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.write = 0
        """Highest durable write number of the journal."""
        self.index = log.last_index
        self._matched = 0
        self._matched_term = 0
        log.on_truncate = self.truncated

    def synced(self, write: int) -> bool:
        """Returns whether more of the log is durable."""
        self.write = write
        reached = self._log.durable_from(self.index, write)
        grown = reached > self.index
        self.index = reached
        return grown

    def truncated(self, last: int) -> None:
        """What was cut off is neither durable nor matched any more, even where its indices are used again."""
        self.index = min(self.index, last)
        self._matched = min(self._matched, last)

    def match(self, term: int, index: int) -> None:
        """The leader of `term` showed that the log is its own up to `index`."""
        if term != self._matched_term:
            self._matched_term = term
            self._matched = 0
        if index > self._matched:
            self._matched = index

    def matched(self, term: int) -> int:
        """What the leader of `term` has matched; 0 when it has matched nothing yet."""
        return self._matched if term == self._matched_term else 0

    def claim(self, term: int) -> int:
        """What may be acknowledged to the leader of `term`: matched in this very term, and on disk."""
        return min(self.matched(term), self.index)

    def installed(self, index: int) -> None:
        """A snapshot up to `index` is durable; the log may have been replaced by it."""
        self.index = max(self.index, index)

    def countable(self, index: int) -> int:
        """An acknowledgement as the leader may count it: the library counts the leader itself at once."""
        return min(index, self.index)

    def appliable(self, commit: int) -> int:
        """Nothing is applied before it is durable here; that alone covers a group of one."""
        return min(commit, self.index)

    def term_is_durable(self) -> bool:
        """Whether messages that depend on the present term and vote may leave."""
        return self._log.vote_write <= self.write
