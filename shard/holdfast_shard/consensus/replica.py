"""One replica of one group: the parts around the library's core, and how they are joined."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from .application import Application
from .compaction import Compaction
from .config import ReplicaConfig
from .durability import Durability
from .elections import Elections
from .engine import Engine
from .following import Following
from .installation import Installation
from .log import REGULAR, Log
from .machine_interface import Applied, EntryTooLarge, NotLeader, Proposal, Role, StateMachine
from .messages import (
    Ack,
    Append,
    AskPreVote,
    GroupMessage,
    PreVote,
    Reject,
    RequestVote,
    Resigned,
    SnapshotChunk,
    SnapshotProgress,
    TermNotice,
    TimeoutNow,
    Vote,
)
from .replication import Replication

if TYPE_CHECKING:
    from .journal import Journal, RecoveredGroup
    from .snapshots import SnapshotStore

_ANSWERED_WITH_OWN_TERM: Final = (Append, SnapshotChunk, RequestVote, AskPreVote, TimeoutNow)
"""Their senders may be stuck in the past, and learn of the present only by being told."""
_TERM_TAKEN_BY_THE_LIBRARY: Final = (Append, SnapshotChunk, RequestVote)
_TERM_NOT_TAKEN: Final = (AskPreVote, PreVote)
"""A pre-vote changes nobody's term."""


class Surroundings(Protocol):
    """The host, as its replicas see it."""

    disk_stalled: bool

    def reachable(self, peer: int) -> bool: ...
    def post(self, peer: int, message: GroupMessage) -> None: ...
    def connection(self, peer: int) -> int: ...
    def wake(self, replica: Replica) -> None: ...
    def uptime(self, now: float) -> float: ...
    def leading(self, change: int) -> None: ...
    def next_beat(self, now: float, count: int = 1) -> float: ...


class Replica:
    """One replica; `me` and the members are node numbers."""

    def __init__(
        self,
        group: int,
        me: int,
        members: Sequence[int],
        host: Surroundings,
        machine: StateMachine,
        journal: Journal,
        recovered: RecoveredGroup | None,
        store: SnapshotStore,
        rng: random.Random,
        config: ReplicaConfig,
        stopwatch: Callable[[], float] | None,
        now: float,
        fresh: bool,
    ) -> None:
        self.group: Final = group
        self.me: Final = me
        self.members: Final = tuple(sorted(members))
        self.peers: Final = tuple(number for number in self.members if number != me)
        self._host = host
        self._config = config
        self._now = now
        self._held: list[tuple[int, int, GroupMessage]] = []
        """Messages waiting for term and vote to be durable: (peer, connection, message), in order."""
        self._office: tuple[int, float | None] | None = None
        """(index of this term's first entry, uptime when the stopwatch started) while leading."""
        self._count_due = False
        self._fresh = fresh
        self.compaction = Compaction(self, machine, journal, store, config, stopwatch)
        self.log = Log(group, journal, recovered, self.compaction.anchor())
        # Only who is awake is told when its writes are durable.
        self.log.on_vote = lambda: host.wake(self)
        self.durability = Durability(self.log)
        self.following = Following(self)
        self.replication = Replication(self, config)
        self.installation = Installation(self, config)
        self.application = Application(self, machine, config, stopwatch)
        self.engine = Engine(me, self.members, self.log, self, config.election_min_s, now)
        self.compaction.started()
        self.elections = Elections(self, config, rng, now)
        self._handlers: dict[type, Callable[[int, Any, float], None]] = {
            Append: self.following.on_append,
            Ack: self.replication.on_ack,
            Reject: self.replication.on_reject,
            RequestVote: self.elections.on_request_vote,
            Vote: self.elections.on_vote,
            AskPreVote: self.elections.on_ask_pre_vote,
            PreVote: self.elections.on_pre_vote,
            TermNotice: self.elections.on_term_notice,
            Resigned: self.elections.on_resigned,
            TimeoutNow: self.elections.on_timeout_now,
            SnapshotChunk: self.installation.on_chunk,
            SnapshotProgress: self.installation.on_progress,
        }

    # What the driver may ask.

    @property
    def role(self) -> Role:
        return self.engine.role

    @property
    def term(self) -> int:
        return self.engine.term

    @property
    def leader(self) -> int | None:
        """Whom this replica follows, itself when it leads; None while unknown."""
        return self.engine.leader

    @property
    def may_vote(self) -> bool:
        """False for a replica on an empty disk that replaces a lost one, until it has an entry committed in the term of
        a leader it follows: then it has all that was committed before. Voting earlier, it could help a survivor
        that lacks an entry which only the lost disk and another survivor had.
        """
        if self._fresh and self.leader not in (None, self.me) and self.log.term_at(self.commit_index) == self.term:
            self._fresh = False
        return not self._fresh

    @property
    def commit_index(self) -> int:
        return self.engine.commit_index

    @property
    def applied_index(self) -> int:
        return self.engine.applied_index

    @property
    def last_index(self) -> int:
        return self.log.last_index

    @property
    def ready(self) -> bool:
        """Leads, and has applied everything of earlier terms."""
        return self._office is not None and self.engine.applied_index >= self._office[0]

    @property
    def proposes(self) -> bool:
        """Ready, and not handing its office over: nothing is proposed meanwhile."""
        return self.ready and self.engine.leading and self.elections.handover is None

    def elapsed_ms(self, now: float) -> int:
        """Whole milliseconds since it took office, never more than real time; 0 when it does not lead."""
        if self._office is None or self._office[1] is None:
            return 0
        return int((self._host.uptime(now) - self._office[1]) * 1000)

    @property
    def disk_stalled(self) -> bool:
        return self._host.disk_stalled

    @property
    def forgetful(self) -> set[int]:
        """Members that claim less than they acknowledged to this leader: their disks have lost something."""
        return self.replication.forgetful

    def is_majority(self, count: int) -> bool:
        return count * 2 > len(self.members)

    def status(self) -> dict[str, object]:
        return {
            "group": self.group,
            "role": self.role.value,
            "term": self.term,
            "leader": self.leader,
            "ready": self.ready,
            "commit": self.commit_index,
            "applied": self.applied_index,
            "first": self.log.first_index,
            "last": self.last_index,
            "durable": self.durability.index,
            "log_bytes": self.log.size_bytes,
            "snapshot": self.compaction.snapshot.index if self.compaction.snapshot else 0,
            "snapshots_taken": self.compaction.taken,
            "snapshots_installed": self.installation.installed,
            "snapshots_refused": self.installation.refused,
            "refused": self.following.refused,
            "lost_acknowledged": sorted(self.replication.forgetful),
            "match": {peer: self.replication.match(peer) for peer in self.peers} if self._office else {},
        }

    # Proposing.

    def may_propose(self, payload: bytes) -> None:
        """Raises NotLeader and EntryTooLarge."""
        if len(payload) >= self._config.entry_bytes_max:
            raise EntryTooLarge(f"{len(payload)} bytes, at most {self._config.entry_bytes_max - 1} are possible")
        if not self.engine.leading or self.elections.handover is not None:
            raise NotLeader(self.group, None if self.engine.leading else self.leader)

    def propose(self, payload: bytes, now: float) -> Proposal:
        """Append in the present term, at once or never. Raises NotLeader and EntryTooLarge, having appended nothing."""
        self.may_propose(payload)
        self._now = now
        index, term = self.log.last_index + 1, self.term
        self.log.add(REGULAR + payload, index, term)
        if not self.peers:
            self._count_due = True
        self._host.wake(self)
        return Proposal(index, term)

    def transfer(self, target: int, now: float) -> None:
        """Hand leadership to `target`; nothing is proposed meanwhile. Raises NotLeader, ValueError for a stranger."""
        if target not in self.peers:
            raise ValueError(f"node {target} is no other member of group {self.group}")
        if not self.engine.leading:
            raise NotLeader(self.group, self.leader)
        self.elections.hand_over(target, now)
        self._host.wake(self)

    # What the host passes on.

    def receive(self, peer: int, message: GroupMessage, now: float) -> None:
        self._now = now
        mine = self.term
        if self.is_of_the_past(message):
            if isinstance(message, _ANSWERED_WITH_OWN_TERM):
                self.answer_lower_term(peer)
            return
        if message.term > mine and not isinstance(message, _TERM_TAKEN_BY_THE_LIBRARY + _TERM_NOT_TAKEN):
            self.elections.take_term(message.term, now)
        self._handlers[type(message)](peer, message, now)
        if not (isinstance(message, Ack) and self._changes_nothing(peer)):
            self._host.wake(self)

    def _changes_nothing(self, peer: int) -> bool:
        """Whether an acknowledgement just counted leaves nothing to do: of most entries that is every second one."""
        return not self._count_due and self.elections.handover is None and self.replication.complete(peer)

    def is_of_the_past(self, message: GroupMessage) -> bool:
        """Of a lower term; a pre-vote says nothing about its sender's term."""
        return message.term < self.term and not isinstance(message, PreVote)

    def answer_lower_term(self, peer: int) -> None:
        self.send(peer, TermNotice(self.group, self.term))

    def on_beat(self, peer: int, term: int, commit: int, sent: int, now: float) -> int | None:
        """A leader's heartbeat. Returns the durable match to answer with, None when there is nothing to answer."""
        self._now = now
        if term < self.term:
            self.answer_lower_term(peer)
            return None
        answer = self.following.on_beat(peer, term, commit, sent, now)
        if self.engine.commit_index > self.engine.applied_index:
            self._host.wake(self)
        return answer

    def on_beat_reply(self, peer: int, term: int, index: int, now: float) -> None:
        self._now = now
        if term == self.term:
            self.replication.acknowledged(peer, index, now)
            self._host.wake(self)

    def connected(self, peer: int, now: float) -> None:
        self._now = now
        self._connection_changed(peer)
        self.elections.connected(now)

    def disconnected(self, peer: int, now: float) -> None:
        self._now = now
        self._connection_changed(peer)
        if self.leader == peer:
            self.elections.leader_lost(now)

    def _connection_changed(self, peer: int) -> None:
        self.replication.connection_changed(peer)
        self.installation.lost(peer)
        self._host.wake(self)

    def synced(self, write: int, now: float) -> bool:
        """Returns whether everything of this replica is durable."""
        self._now = now
        if self.durability.synced(write):
            self._host.wake(self)
            self.replication.durable_grew(now)
            self._count_due = True
        if self._held and self.durability.term_is_durable():
            held, self._held = self._held, []
            for peer, connection, message in held:
                if message.term == self.term and self._host.connection(peer) == connection:
                    self._host.post(peer, message)
        return self.durability.index == self.log.last_index and self.durability.term_is_durable()

    def timer(self, now: float) -> None:
        if self._office is not None and self._office[1] is None:
            self._office = (self._office[0], self._host.uptime(now))
        if now >= self.elections.deadline:
            self._now = now
            self.elections.due(now)
            self._host.wake(self)

    def step_down(self, now: float) -> None:
        """The disk has stalled: a leader that cannot write must not hold up a group that could."""
        self._now = now
        if self.engine.leading:
            self.engine.resign()
            self.elections.resigned(now)

    def work(self, applied: list[tuple[int, Applied]], now: float) -> bool:
        """Commit, apply and send what there is; returns whether something is left to apply."""
        self._now = now
        if self._count_due and self.engine.leading:
            self._count_due = False
            if not self.engine.tick(now):
                self.elections.resigned(now)
        left = self.application.run(applied)
        if self.engine.leading:
            self.elections.hand_over_if_ready()
            self.replication.pump()
        return left

    # What the parts ask of each other.

    def send(self, peer: int, message: GroupMessage) -> None:
        """Nothing leaves before the term and vote that it depends on are durable."""
        if not self._host.reachable(peer):
            return
        if self.durability.term_is_durable() and not self._held:
            self._host.post(peer, message)
        else:
            self._held.append((peer, self._host.connection(peer), message))

    def reachable(self, peer: int) -> bool:
        return self._host.reachable(peer)

    def next_check(self, now: float) -> float:
        """When to look for a majority again: together with other groups, so that many idle ones make few turns."""
        return self._host.next_beat(now, 2)

    def count_soon(self) -> None:
        self._count_due = True

    def follow(self, peer: int, term: int, now: float) -> bool:
        """The leader of `term` speaks; returns whether this replica follows it."""
        assert term >= self.term
        if term == self.term and self.engine.leading:
            self.following.refused += 1
            return False
        if term > self.term or self.leader != peer or self.role is not Role.FOLLOWER:
            self.engine.follow(peer, term, 0, now)
        self.elections.heard(now)
        return True

    # What the core reports.

    def vote_requests(self, peer: int, term: int, last_index: int, last_term: int) -> None:
        self.send(peer, RequestVote(self.group, term, last_index, last_term))

    def vote_given(self, peer: int, term: int) -> None:
        self.elections.vote_given(self._now)
        self.send(peer, Vote(self.group, term))

    def role_changed(self, old: Role, new: Role) -> None:
        self.elections.role_changed(old, new, self._now)
        if new is Role.LEADER:
            self._host.leading(1)
        if old is Role.LEADER:
            self._host.leading(-1)
            self._office = None
            self.replication.left_office()
            self.installation.left_office()

    def took_office(self) -> None:
        # The stopwatch starts with the next turn: certainly after the win.
        self._office = (self.log.last_index, None)
        self.elections.deadline = self._now
        self.replication.took_office()
        self._count_due = True
        self._host.wake(self)

    def matched(self, peer: int, index: int) -> None:
        self.durability.match(self.term, index)
