"""Bugs of the engine beside those of its audit: what counts, who leads, what is applied."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from holdfast_shard.consensus import Host, Role, elections
from holdfast_shard.consensus.compaction import Compaction
from holdfast_shard.consensus.durability import Durability
from holdfast_shard.consensus.elections import Elections
from holdfast_shard.consensus.engine import Engine
from holdfast_shard.consensus.following import Following
from holdfast_shard.consensus.log import Log
from holdfast_shard.consensus.messages import Append, AskPreVote, PreVote, Reject, TimeoutNow
from holdfast_shard.consensus.replica import Replica
from holdfast_shard.consensus.replication import Replication, Sending

from .mutant import Mutant, Promise, Selection, Simulation, patch, patches

_ELECTIONS = Selection(("tests/consensus/test_elections.py",))
_RECOVERY = Selection(("tests/consensus/test_recovery.py",))
_REPLICATION = Selection(("tests/consensus/test_replication.py",))
_SCHEDULES = Selection(("tests/consensus/test_random_schedules.py",))
_SIMULATION = Simulation()


# What counts.


def _counts_everybody(self: Replication, now: float) -> None:
    """Its own disk is enough for the leader."""
    for peer in self.progress:
        self._replica.engine.acknowledged(peer, self._replica.durability.index, now)


def _counts_every_term(self: Engine, now: float) -> bool:
    """Commits by counting, whatever the term (Raft, figure 8)."""
    if self.leading:
        counted = sorted((self.counted(peer) for peer in self._nodes), reverse=True)
        # The library counts this leader's own log apart from those of the others.
        held = counted[len(self._nodes) // 2 - 1] if len(self._nodes) > 1 else self._log.last_index
        if held > self.commit_index:
            self._SyncObj__raftCommitIndex = held
            self._log.setRaftCommitIndex(held)
    return _TICK(self, now)


def _believes_every_index(self: Replication, peer: int, index: int, now: float) -> None:
    """Counts an acknowledgement of what is not in the log, once that has come there."""
    progress = self.progress.get(peer)
    if progress is not None and index > self._replica.log.last_index:
        progress.match = index
    else:
        _ACKNOWLEDGED(self, peer, index, now)


def _misses_no_append(self: Following, peer: int, term: int, commit: int, sent: int, now: float) -> int | None:
    """Does not look whether what the leader has sent has come."""
    return _ON_BEAT(self, peer, term, commit, 0, now)


def _takes_any_previous(self: Following, message: Append) -> tuple[int, int] | None:
    """Does not compare the term of the entry before the new ones with its own."""
    held = self._replica.log.term_at(message.previous_index)
    return _SKIP(self, message) if held is None else (message.previous_index, held)


def _sends_again_what_was_acknowledged(self: Replication, peer: int, message: Reject, now: float) -> None:
    """Takes the follower's word for it that it has less than it said."""
    progress = self.progress.get(peer)
    if progress is not None and progress.state is Sending.PROBE and message.previous_index <= progress.match:
        progress.match = 0
        progress.restart(message.hint)
    else:
        _ON_REJECT(self, peer, message, now)


_TICK, _SKIP, _ON_BEAT = Engine.tick, Following._skip_committed, Following.on_beat
_ACKNOWLEDGED, _ON_REJECT = Replication.acknowledged, Replication.on_reject


# Terms, votes, elections.


def _keeps_its_vote_in_memory(self: Log, term: int, voted_for: int | None) -> None:
    self.term, self.voted_for = term, voted_for
    self.on_vote()


def _writes_the_term_alone(self: Log, term: int, voted_for: int | None) -> None:
    self.vote_write = self._journal.append_vote(self._group, term, None)
    self.term, self.voted_for = term, voted_for
    self.on_vote()


def _votes_again(self: Engine, peer: int, term: int, last_index: int, last_term: int, now: float) -> None:
    self._SyncObj__votedForNodeId = None
    _VOTE(self, peer, term, last_index, last_term, now)


def _votes_for_any_log(self: Engine, peer: int, term: int, last_index: int, last_term: int, now: float) -> None:
    _VOTE(self, peer, term, self._log.last_index, self._log.last_term, now)


def _consents_to_any_log(self: Elections, peer: int, message: AskPreVote, now: float) -> None:
    if not self.hears_leader(now) or self._replica.leader == peer:
        self._replica.send(peer, PreVote(self._replica.group, self._replica.term, message.term))


def _hands_over_at_once(self: Elections) -> None:
    if self.handover and not self._handover_sent:
        self._handover_sent = True
        self._replica.send(self.handover[0], TimeoutNow(self._replica.group, self._replica.term))


def _may_propose_while_handing_over(self: Replica, payload: bytes) -> None:
    handover, self.elections.handover = self.elections.handover, None
    try:
        _MAY_PROPOSE(self, payload)
    finally:
        self.elections.handover = handover


def _counts_every_consent(self: Elections, peer: int, message: PreVote, now: float) -> None:
    """Also one that was asked for in an earlier term, or before a leader was heard."""
    if not self._replica.engine.leading:
        self._consents |= {self._replica.me, peer}
        self._consented(now)


_VOTE, _MAY_PROPOSE = Engine.vote_requested, Replica.may_propose


# The stopwatch.


def _starts_with_the_candidacy(self: Replica, old: Role, new: Role) -> None:
    _ROLE_CHANGED(self, old, new)
    if new is Role.CANDIDATE:
        _CANDIDACIES[self] = self._host.uptime(self._now)


def _takes_office_since_its_candidacy(self: Replica) -> None:
    _TOOK_OFFICE(self)
    self._office = (self.log.last_index, _CANDIDACIES.get(self, self._host.uptime(self._now)))


_ROLE_CHANGED, _TOOK_OFFICE = Replica.role_changed, Replica.took_office
_CANDIDACIES: WeakKeyDictionary[Replica, float] = WeakKeyDictionary()


# Snapshots of the log.


def _lets_go_of_the_log_at_once(self: Compaction) -> Any:
    job = _BEGIN(self)
    if job is not None:
        self._journal.release(self.group, self._replica.engine.applied_index)
    return job


def _keeps_any_tail(self: Log, index: int, term: int) -> None:
    """What follows the snapshot's index stays, also when it belongs to another history."""
    if self.last_index < index:
        _RESTART(self, index, term)
        return
    self._journal.append_start(self._group, index, self.term_at(index) or term)
    self.drop_before(index)
    self.commit_index = index


_BEGIN, _RESTART = Compaction.begin, Log.restart_at


MUTANTS = (
    Mutant(
        "commit without a majority", Promise.KEPT, patch(Replication, "durable_grew", _counts_everybody),
        (_SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "commit of an older term's entry by counting", Promise.KEPT, patch(Engine, "tick", _counts_every_term),
        (_REPLICATION, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "an append taken without comparing terms", Promise.ALIKE,
        patch(Following, "_skip_committed", _takes_any_previous),
        (_REPLICATION, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "an acknowledgement of what is not in the log", Promise.KEPT,
        patch(Replication, "acknowledged", _believes_every_index), (_REPLICATION, _SCHEDULES),
    ),
    Mutant(
        "a lost append not missed", Promise.ANSWERED, patch(Following, "on_beat", _misses_no_append),
        (_REPLICATION, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "an entry applied before it is committed", Promise.KEPT,
        patch(Durability, "appliable", lambda self, commit: self.index), (_SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "a follower that forgot what it acknowledged is sent it again", Promise.KEPT,
        patch(Replication, "on_reject", _sends_again_what_was_acknowledged), (_REPLICATION,),
    ),
    Mutant(
        "vote not persisted", Promise.ELECTED, patch(Log, "setCurrentTerm", _keeps_its_vote_in_memory),
        (_RECOVERY, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "term persisted without its vote", Promise.ELECTED, patch(Log, "setCurrentTerm", _writes_the_term_alone),
        (_RECOVERY, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "two votes in one term", Promise.ELECTED, patch(Engine, "vote_requested", _votes_again),
        (_ELECTIONS, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "a vote for a log that lacks something", Promise.ELECTED,
        patches(
            patch(Engine, "vote_requested", _votes_for_any_log),
            patch(Elections, "on_ask_pre_vote", _consents_to_any_log),
        ),
        (_ELECTIONS, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "a consent of another term counted", Promise.ANSWERED, patch(Elections, "on_pre_vote", _counts_every_consent),
        (_ELECTIONS, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "no heartbeats", Promise.ANSWERED, patch(Host, "_beat", lambda self: None), (_ELECTIONS, _SIMULATION),
    ),
    Mutant(
        "an empty disk in a lost one's place votes", Promise.KEPT,
        patch(Replica, "may_vote", property(lambda self: True)),
        (Selection(("tests/consensus/test_replacement.py",)),),
    ),
    Mutant(
        "a lagging replica hurries to lead", Promise.ANSWERED, patch(elections, "LAGGING_WAIT_S", 0.0), (_ELECTIONS,),
    ),
    Mutant(
        "leadership handed to whoever lacks entries", Promise.ANSWERED,
        patch(Elections, "hand_over_if_ready", _hands_over_at_once), (_ELECTIONS, _SIMULATION),
    ),
    Mutant(
        "proposals taken while leadership is handed over", Promise.ANSWERED,
        patch(Replica, "may_propose", _may_propose_while_handing_over), (_ELECTIONS, _SIMULATION),
    ),
    Mutant(
        "a leader serves before it has applied what came before", Promise.FRESH_READS,
        patch(Replica, "ready", property(lambda self: self._office is not None)), (_ELECTIONS, _SIMULATION),
    ),
    Mutant(
        "stopwatch started before the win", Promise.FULL_TIME,
        patches(
            patch(Replica, "role_changed", _starts_with_the_candidacy),
            patch(Replica, "took_office", _takes_office_since_its_candidacy),
        ),
        (_ELECTIONS, _SIMULATION),
    ),
    Mutant(
        "entries let go before their snapshot is on disk", Promise.KEPT,
        patch(Compaction, "begin", _lets_go_of_the_log_at_once), (_RECOVERY, _SCHEDULES, _SIMULATION),
    ),
    Mutant(
        "a foreign tail kept behind an installed snapshot", Promise.ALIKE, patch(Log, "restart_at", _keeps_any_tail),
        (_RECOVERY, _SCHEDULES, _SIMULATION),
    ),
)  # fmt: skip
