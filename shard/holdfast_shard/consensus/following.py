"""The follower's side of replication: compare first, then let the library append what is new.

Replaces the library's unconditional truncation, and its raising of the commit index over what was never matched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .log import Entry, known_type
from .messages import Ack, Append, Reject

if TYPE_CHECKING:
    from .replica import Replica

REPLACES: Final = ("_SyncObj__onMessageReceived", "_SyncObj__sendNextNodeIdx")


class Following:
    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.ack_due = False
        """A leader waits for an answer; what it says is decided when it leaves."""
        self._acked = (0, 0)
        """(term, index) last acknowledged."""
        self.refused = 0
        """Messages that no correct leader sends: unknown entry types, conflicts with what is committed."""

    def on_append(self, peer: int, message: Append, now: float) -> None:
        replica = self._replica
        if not all(known_type(command) for _, command in message.entries):
            self.refused += 1
            return
        if not replica.follow(peer, message.term, now):
            return
        start = self._skip_committed(message)
        previous = (message.previous_index, message.previous_term)
        if start is not None:
            previous = start
        held = replica.log.term_at(previous[0])
        if held != previous[1]:
            self._reject(peer, message)
            return
        self._take(peer, message, previous, now)

    def _skip_committed(self, message: Append) -> tuple[int, int] | None:
        """Where the log begins only after `previous_index`: everything committed is the leader's too (its log is
        complete), so comparing may begin at the log's anchor."""
        log = self._replica.log
        if message.previous_index >= log.first_index:
            return None
        return log.first_index, log.entry(log.first_index)[2]

    def _take(self, peer: int, message: Append, previous: tuple[int, int], now: float) -> None:
        replica = self._replica
        index, term = previous
        skipped = self.matching(message, index)
        match = index + skipped
        fresh = message.entries[match - message.previous_index :]
        if fresh and self.would_undo(match):
            self.refused += 1
            return
        if match > index:
            index, term = match, replica.log.entry(match)[2]
        commit = min(message.commit, match + len(fresh))
        if fresh:
            entries: list[Entry] = [
                (command, match + 1 + at, entry_term) for at, (entry_term, command) in enumerate(fresh)
            ]
            replica.engine.append(peer, message.term, commit, (index, term), entries, now)
        else:
            replica.durability.match(message.term, match)
            self.raise_commit(peer, message.term, message.commit, now)
        self.ack_due = True

    def matching(self, message: Append, after: int) -> int:
        """How many entries after index `after` the log already holds with the same terms. They are never cut off."""
        log = self._replica.log
        count = 0
        for at in range(after - message.previous_index, len(message.entries)):
            if log.term_at(message.previous_index + 1 + at) != message.entries[at][0]:
                break
            count += 1
        return count

    def would_undo(self, match: int) -> bool:
        """Whether replacing what follows `match` would cut off what is committed."""
        return match < self._replica.log.commit_index

    def raise_commit(self, peer: int, term: int, commit: int, now: float) -> None:
        """Never above what the leader of `term` has been matched up to: an unmatched tail may be lost."""
        commit = self.committable(term, commit)
        if commit > self._replica.engine.commit_index:
            self._replica.engine.follow(peer, term, commit, now)

    def committable(self, term: int, commit: int) -> int:
        return min(commit, self._replica.durability.matched(term))

    def _reject(self, peer: int, message: Append) -> None:
        log = self._replica.log
        floor = log.commit_index + 1
        if log.last_index < message.previous_index:
            hint = log.last_index + 1
        else:
            hint = log.first_of_term(message.previous_index, floor)
        self._replica.send(peer, Reject(self._replica.group, message.term, message.previous_index, max(hint, floor)))

    def on_beat(self, peer: int, term: int, commit: int, sent: int, now: float) -> int | None:
        """The answer to a heartbeat: the durable match, or None when something was rejected or another is followed."""
        replica = self._replica
        if not replica.follow(peer, term, now):
            return None
        matched = replica.durability.matched(term)
        if commit > replica.engine.commit_index:
            self.raise_commit(peer, term, commit, now)
        if sent > matched:
            # On a stream in order this means that something sent before was lost.
            hint = max(matched, min(replica.log.commit_index, replica.log.last_index)) + 1
            replica.send(peer, Reject(replica.group, term, sent, hint))
            return None
        return replica.durability.claim(term)

    def acknowledgement(self) -> Ack | None:
        """What there is to tell the leader: more is durable, or it repeated what was already acknowledged."""
        replica = self._replica
        term = replica.term
        claim = replica.durability.claim(term)
        if not self.ack_due and (term, claim) == self._acked:
            return None
        if claim < replica.durability.matched(term) and (term, claim) == self._acked:
            # The sync under way will bring more; heartbeats show meanwhile that this replica lives.
            return None
        self.ack_due = False
        self._acked = (term, claim)
        return Ack(replica.group, term, claim)
