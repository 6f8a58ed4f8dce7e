"""Messages that no correct member sends, or that come too late: nothing changes, and the group goes on."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec
import pytest

from holdfast_shard.consensus import ReplicaHalted
from holdfast_shard.consensus.journal import JournalFailed
from holdfast_shard.consensus.messages import (
    Ack,
    Append,
    AskPreVote,
    Beat,
    BeatReply,
    Message,
    PreVote,
    Reject,
    Resigned,
    SnapshotChunk,
    SnapshotProgress,
    TimeoutNow,
    Vote,
    decode,
    encode,
)
from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node
from tests.consensus.schedules import SMALL


class Talk:
    """A settled cluster of three, in which anybody's messages can be made up."""

    def __init__(self) -> None:
        self.cluster = Cluster(3, config=SMALL)
        self._last: dict[tuple[int, int], bytes] = {}
        self.cluster.filter = self._keep
        self.leader = self.cluster.elect()
        for n in range(40):
            self.cluster.put(b"%d:" % n + bytes(400))
        self.cluster.settle()
        self.cluster.run(1.0)
        self.one, self.two = (node for node in self.cluster.nodes.values() if node is not self.leader)
        self._number = 10**9

    def _keep(self, source: int, target: int, message: bytes) -> bool:
        self._last[source, target] = message
        return True

    def say(self, source: Node, target: Node, *messages: Message) -> None:
        self._number += 1
        bundle = msgspec.structs.replace(
            decode(self._last[source.number, target.number]), number=self._number, messages=list(messages)
        )
        target.host.receive(source.number, encode(bundle), self.cluster.now)
        self.cluster.turn(target)

    def go_on(self) -> None:
        """Over new connections, for the numbers of the old ones are used up."""
        for one, two in ((1, 2), (1, 3), (2, 3)):
            self.cluster.disconnect(one, two)
            self.cluster.connect(one, two)
        self.cluster.put(b"more")
        self.cluster.settle()


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.go_on()


def replica(node: Node) -> Replica:
    return node.host.replicas[1]


def state(node: Node) -> tuple[object, ...]:
    found = replica(node)
    return found.term, found.role, found.leader, found.last_index, found.log.commit_index, found.log.first_index


def test_only_the_leader_resigns_and_hands_over(talk: Talk) -> None:
    term = replica(talk.one).term
    before = state(talk.one)
    talk.say(talk.two, talk.one, Resigned(1, term), TimeoutNow(1, term))
    assert state(talk.one) == before
    before = state(talk.leader)
    talk.say(talk.two, talk.leader, Resigned(1, term), TimeoutNow(1, term))
    assert state(talk.leader) == before


def test_nobody_leads_beside_the_leader_of_a_term(talk: Talk) -> None:
    term, before, refused = replica(talk.leader).term, state(talk.leader), replica(talk.leader).following.refused
    last = replica(talk.leader).last_index
    chunk = SnapshotChunk(1, term, last + 9, term, 1, 1, 0, zlib.crc32(b"x"), b"x")
    talk.say(talk.one, talk.leader, Append(1, term, last, term, last, []), Beat([(1, term, last, last)]), chunk)
    assert state(talk.leader) == before
    assert replica(talk.leader).following.refused == refused + 3


def test_entries_of_a_kind_not_known_are_not_taken(talk: Talk) -> None:
    found, before = replica(talk.one), state(talk.one)
    refused = found.following.refused
    talk.say(talk.leader, talk.one, Append(1, found.term, found.last_index, found.term, 0, [(found.term, b"\x7fx")]))
    assert state(talk.one) == before
    assert found.following.refused == refused + 1


def test_an_append_from_before_the_log_begins_is_compared_from_where_it_begins(talk: Talk) -> None:
    found, before = replica(talk.one), state(talk.one)
    assert found.log.first_index > 2, "the beginning has been let go"
    entries = [
        (term, payload)
        for payload, _, term in map(replica(talk.leader).log.entry, range(found.log.first_index, found.last_index + 1))
    ]
    older = [(1, b"\x00")] * (found.log.first_index - 2)
    talk.say(talk.leader, talk.one, Append(1, found.term, 1, 1, found.log.commit_index, older + entries))
    assert state(talk.one) == before


def test_answers_about_what_was_never_sent(talk: Talk) -> None:
    found, before, refused = replica(talk.leader), state(talk.leader), replica(talk.leader).following.refused
    term, last = found.term, found.last_index
    talk.say(
        talk.one, talk.leader, Ack(1, term, last + 5), BeatReply([(1, term, last + 5), (7, term, 1)]),
        Reject(1, term, last + 3, 1), SnapshotProgress(1, term, 3, 1 << 40, True), Vote(1, term),
        PreVote(1, term, term), SnapshotProgress(1, term, last + 9, 0, False),
    )  # fmt: skip
    assert state(talk.leader) == before
    assert found.following.refused >= refused + 2


def test_a_late_piece_of_an_older_snapshot_replaces_nothing(talk: Talk) -> None:
    found, before = replica(talk.one), state(talk.one)
    chunk = SnapshotChunk(1, found.term, found.log.commit_index, found.term, 3, 1, 0, zlib.crc32(b"x"), b"x")
    talk.say(talk.leader, talk.one, chunk)
    assert state(talk.one) == before
    assert found.installation.installed == 0


def test_a_piece_of_a_snapshot_is_taken_once_whole_and_in_order(talk: Talk) -> None:
    found, before = replica(talk.one), state(talk.one)
    index = found.last_index + 100

    def chunk(offset: int, data: bytes, crc: int) -> SnapshotChunk:
        return SnapshotChunk(1, found.term, index, found.term, 10, 77, offset, crc, data)

    good = chunk(0, b"abc", zlib.crc32(b"abc"))
    talk.say(talk.leader, talk.one, chunk(0, b"abc", 1), good, good, chunk(6, b"xyz", zlib.crc32(b"xyz")))
    assert found.installation._arrival is not None
    assert found.installation._arrival.offset == 3
    talk.say(talk.leader, talk.one, chunk(3, b"defghij", zlib.crc32(b"defghij")))
    assert found.installation.refused == 1, "its checksum as a whole was wrong"
    assert state(talk.one) == before


def test_a_snapshot_that_was_arriving_is_dropped_when_the_own_state_has_reached_it(talk: Talk) -> None:
    found = replica(talk.one)
    index = found.last_index + 1
    talk.say(talk.leader, talk.one, SnapshotChunk(1, found.term, index, found.term, 9, 7, 0, zlib.crc32(b"a"), b"a"))
    assert found.installation._arrival is not None
    talk.go_on()
    found.installation.forget_covered(index - 1)
    assert found.installation._arrival is not None
    assert found.compaction.begin() is not None
    assert found.installation._arrival is None


def test_a_replica_that_is_behind_gets_no_vote_before_an_election(talk: Talk) -> None:
    found = replica(talk.one)
    deadline = found.elections.deadline
    talk.say(talk.two, talk.one, AskPreVote(1, found.term, 1, 1))
    assert found.elections.deadline == deadline


def test_a_proposal_that_fails_half_way_stops_the_host(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote in part may be in the journal and not in the log: it must not go on from there."""

    def refuse(*_: object) -> int:
        raise JournalFailed("the journal failed: input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(talk.leader.journal, "append_entry", refuse)
        with pytest.raises(JournalFailed):
            talk.leader.host.propose(1, b"x", talk.cluster.now)
    assert talk.leader.host.halted
    with pytest.raises(ReplicaHalted):
        talk.leader.host.propose(1, b"x", talk.cluster.now)
    talk.cluster.crash(talk.leader.number)
    talk.cluster.start(talk.leader.number)


def test_a_host_that_has_stopped_hands_over_nothing(talk: Talk) -> None:
    host = talk.two.host
    host.halt()
    assert not host.leave_office(talk.cluster.now)
    host.synced(1 << 40, talk.cluster.now)
    talk.cluster.crash(talk.two.number)
    talk.cluster.start(talk.two.number)
