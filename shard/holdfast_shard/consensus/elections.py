"""When elections start and end: pre-vote, check-quorum, term notices, hand-over.

Replaces the library's election timers; its vote rules are kept. A vote request is never refused here, only a pre-vote
is: refusing votes would lock out for ever a node that once raised its term.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from .config import ReplicaConfig
from .machine_interface import Role
from .messages import AskPreVote, PreVote, RequestVote, Resigned, TermNotice, TimeoutNow, Vote

if TYPE_CHECKING:
    from .replica import Replica

REPLACES: Final = (
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__setCurrentTerm",
    "_SyncObj__setState",
)

FIRST_WAIT_S: Final = (0.1, 0.4)
"""Before the first pre-vote of a replica that has heard no leader since it started, as parts of election_min_s."""
RETRY: Final = (0.3, 0.6)
"""Before the next try after a pre-vote or an election that led nowhere, as parts of election_min_s."""
BROKEN_RETRY: Final = (0.08, 0.2)
"""The same while the connection to the last leader is broken: others may not have noticed yet."""

LAGGING_ENTRIES: Final = 256
"""A replica with more entries than this to apply would lead without serving, for as long as that takes."""
LAGGING_WAIT_S: Final = 0.3
"""So much longer it waits before it asks, for another that could serve at once to be elected."""


class Elections:
    """One replica's election state. Times are the host's `now`."""

    def __init__(self, replica: Replica, config: ReplicaConfig, rng: random.Random, now: float) -> None:
        self._replica = replica
        self._config = config
        self._rng = rng
        self._heard_at = -1e9
        self._leader_lost = False
        """The connection to the leader last followed broke or it resigned, and none was heard since."""
        self._asked_term: int | None = None
        """Invariant: not None only while `_consents` counts answers to a pre-vote asked in this very term."""
        self._consents: set[int] = set()
        self._voters: set[int] = set()
        """Who voted for this candidate in its present term."""
        self.handover: tuple[int, float] | None = None
        """(target, give up at) while leadership is being handed over; nothing is proposed meanwhile."""
        self._handover_sent = False
        self.deadline = now if len(replica.members) == 1 else now + self._part(FIRST_WAIT_S)

    def _part(self, bounds: tuple[float, float]) -> float:
        return self._config.election_min_s * self._rng.uniform(*bounds)

    def _timeout(self) -> float:
        return self._rng.uniform(self._config.election_min_s, self._config.election_max_s)

    def _retry(self) -> float:
        return self._part(BROKEN_RETRY if self._leader_lost else RETRY)

    # What happens around us.

    def heard(self, now: float) -> None:
        """The leader of the present term was heard."""
        self._heard_at = now
        self._leader_lost = False
        self._asked_term = None
        self.deadline = now + self._timeout()

    def connected(self, now: float) -> None:
        if self._replica.leader is None and not self._replica.engine.leading:
            self.deadline = min(self.deadline, now + self._part(FIRST_WAIT_S))

    def leader_lost(self, now: float) -> None:
        """Its connection broke, or it has resigned: ask at once, with a little disorder so that two do not collide."""
        self._leader_lost = True
        replica = self._replica
        lagging = replica.last_index - replica.applied_index > LAGGING_ENTRIES
        wait = self._rng.uniform(0, self._config.broken_link_s) + (LAGGING_WAIT_S if lagging else 0.0)
        self.deadline = min(self.deadline, now + wait)

    def role_changed(self, old: Role, new: Role, now: float) -> None:
        self.handover = None
        self._asked_term = None
        self._voters.clear()
        if new is not Role.LEADER:
            self.deadline = max(self.deadline, now + (self._retry() if new is Role.CANDIDATE else self._timeout()))

    def hears_leader(self, now: float) -> bool:
        """Whether a leader is alive as far as this replica can tell."""
        if self._replica.engine.leading:
            return True
        alive = now - self._heard_at < self._config.election_min_s
        return alive and self._replica.leader is not None and not self._leader_lost

    # Time.

    def due(self, now: float) -> None:
        """The deadline has passed."""
        replica = self._replica
        if replica.engine.leading:
            self._lead(now)
            return
        self.deadline = now + self._retry()
        if replica.disk_stalled or not replica.may_vote:
            # It could neither vote nor be voted for before its disk is back, or before it has caught up.
            return
        self._ask(now)

    def _lead(self, now: float) -> None:
        """Check-quorum: the library steps down when a majority has been silent for too long."""
        self.deadline = self._replica.next_check(now)
        if self.handover and now >= self.handover[1]:
            self.handover = None
        if not self._replica.engine.tick(now):
            self.resigned(now)

    def resigned(self, now: float) -> None:
        """This leader stepped down by itself: tell the followers, so that they need not wait for their timeouts."""
        self.deadline = now + self._timeout()
        for peer in self._replica.peers:
            self._replica.send(peer, Resigned(self._replica.group, self._replica.term))

    def _ask(self, now: float) -> None:
        replica = self._replica
        self._asked_term = replica.term
        self._consents = {replica.me}
        log = replica.log
        for peer in replica.peers:
            replica.send(peer, AskPreVote(replica.group, replica.term, log.last_index, log.last_term))
        self._consented(now)

    def _consented(self, now: float) -> None:
        if self._replica.is_majority(len(self._consents)):
            self._asked_term = None
            self._campaign(now)

    def _campaign(self, now: float) -> None:
        self._voters.clear()
        self.deadline = now + self._part(RETRY)
        self._replica.engine.campaign(now)

    # Messages. The replica has dropped those of a lower term and answered their senders.

    def on_ask_pre_vote(self, peer: int, message: AskPreVote, now: float) -> None:
        log = self._replica.log
        if (message.last_term, message.last_index) < (log.last_term, log.last_index) or not self._replica.may_vote:
            return
        if self.hears_leader(now) and self._replica.leader != peer:
            return
        if not self._replica.engine.leading:
            # Let the asker go first.
            self.deadline = max(self.deadline, now + self._part(BROKEN_RETRY))
        self._replica.send(peer, PreVote(self._replica.group, self._replica.term, message.term))

    def on_pre_vote(self, peer: int, message: PreVote, now: float) -> None:
        if message.asked_term == self._asked_term == self._replica.term and not self._replica.engine.leading:
            self._consents.add(peer)
            self._consented(now)

    def on_request_vote(self, peer: int, message: RequestVote, now: float) -> None:
        if self._replica.may_vote:
            self._replica.engine.vote_requested(peer, message.term, message.last_index, message.last_term, now)

    def vote_given(self, now: float) -> None:
        self._asked_term = None
        self.deadline = max(self.deadline, now + self._part(RETRY))

    def on_vote(self, peer: int, message: Vote, now: float) -> None:
        """The library counts votes, not voters: it is shown one per voter and term."""
        candidate = self._replica.engine.role is Role.CANDIDATE and message.term == self._replica.term
        if candidate and self.is_new_voter(peer):
            self._voters.add(peer)
            self._replica.engine.voted(peer, message.term, now)

    def is_new_voter(self, peer: int) -> bool:
        return peer not in self._voters

    def on_term_notice(self, peer: int, message: TermNotice, now: float) -> None:
        """The replica has already taken the higher term; ask in it at once."""

    def take_term(self, term: int, now: float) -> None:
        """Someone answered with a higher term: take it, and ask at once in it."""
        led = self._replica.engine.leading
        self._replica.engine.take_term(term)
        self._heard_at = -1e9
        self._asked_term = None
        self.deadline = now if led else now + self._rng.uniform(0, self._config.broken_link_s)

    def on_resigned(self, peer: int, message: Resigned, now: float) -> None:
        if self._replica.leader == peer and not self._replica.engine.leading:
            self._replica.engine.forget_leader()
            self.leader_lost(now)

    # Hand-over.

    def hand_over(self, target: int, now: float) -> None:
        """Lead until `target` has everything, then let it campaign; nothing is proposed meanwhile."""
        assert self._replica.engine.leading
        self.handover = (target, now + self._config.election_max_s)
        self._handover_sent = False

    def hand_over_if_ready(self) -> None:
        if self.handover and not self._handover_sent:
            target = self.handover[0]
            if self._replica.replication.match(target) == self._replica.log.last_index:
                self._handover_sent = True
                self._replica.send(target, TimeoutNow(self._replica.group, self._replica.term))

    def on_timeout_now(self, peer: int, message: TimeoutNow, now: float) -> None:
        """Skips the pre-vote: the leader itself asks for the election."""
        if self._replica.leader == peer and not self._replica.engine.leading and self._replica.may_vote:
            self._campaign(now)
