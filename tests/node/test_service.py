"""What a leader does for one group, with a log that the test applies by hand."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.wire import limits
from holdfast.wire.errors import Code
from holdfast.wire.frames import DROPPED, EventKind, Kind, Options, Status, decode_answer_list, decode_raw_list, encode
from holdfast.wire.limits import ENTRY_BYTES_MAX
from holdfast.wire.messages import FrameRequest
from holdfast_shard.consensus import Applied, NotLeader, Proposal
from holdfast_shard.machine import EntryResult, LockMachine, ReadBudget
from holdfast_shard.machine.entry import parse_entry
from holdfast_shard.node.frame import Frame, read_frame
from holdfast_shard.node.service import ENTRIES_IN_FLIGHT_MAX, PENDING_BYTES_MAX, GroupService
from tests.machine.driver import GENESIS, Op, frame, section


class Leader:
    """A replica that leads, and the log it appends to."""

    def __init__(self) -> None:
        self.ready = True
        self.handing_over = False
        self.leader: int | None = 1
        self.term = 1
        self.applied_index = 1
        self.log: list[tuple[int, int, bytes]] = []
        self.last = 1
        self.machine = LockMachine(GENESIS)
        self.machine.apply(1, 1, None)
        self.service = GroupService(1, self, self.machine, self.propose)
        self.started = 0.0

    @property
    def proposes(self) -> bool:
        return self.ready and not self.handing_over

    def elapsed_ms(self, now: float) -> int:
        return int((now - self.started) * 1000)

    def propose(self, group: int, payload: bytes, now: float) -> Proposal:
        if not self.proposes:
            raise NotLeader(group, self.leader)
        self.last += 1
        self.log.append((self.last, self.term, payload))
        return Proposal(self.last, self.term)

    def commit(self, count: int | None = None) -> None:
        for index, term, payload in self.log[:count]:
            self.apply(index, term, payload)
        del self.log[:count]

    def apply(self, index: int, term: int, payload: bytes | None) -> None:
        result = self.machine.apply(index, term, payload)
        self.applied_index = index
        self.service.applied(Applied(index, term, result, payload is None))

    def codes(self) -> list[int | None]:
        taken, self.service.replies = self.service.replies, []
        return [reply.refusal.code if reply.refusal else None for reply in taken]


REGISTER = frame(1, section(0, 0, [Op(Kind.REGISTER)]))


def test_frames_that_come_while_entries_are_under_way_leave_together() -> None:
    leader = Leader()
    for _ in range(ENTRIES_IN_FLIGHT_MAX):
        leader.service.write(Frame("r", 1, REGISTER))
        leader.service.turn(0.0)
    for _ in range(10):
        leader.service.write(Frame("r", 2, REGISTER))
        leader.service.turn(0.0)
    assert len(leader.log) == ENTRIES_IN_FLIGHT_MAX
    leader.commit(1)
    leader.service.turn(0.0)
    leader.commit()
    assert len(leader.service.replies) == ENTRIES_IN_FLIGHT_MAX + 10
    numbers = [decode_answer_list(reply.answers or b"")[0].tokens[0] for reply in leader.service.replies]
    assert len(set(numbers)) == len(numbers)


def test_an_entry_stays_within_its_bound() -> None:
    leader = Leader()
    for _ in range(5):
        leader.service.write(Frame("r", 1, bytes(1 << 20)))
    leader.service.turn(0.0)
    assert [len(payload) <= ENTRY_BYTES_MAX + 100 for _, _, payload in leader.log] == [True, True]


def test_more_than_the_bound_of_waiting_frames_is_refused_with_a_time() -> None:
    leader = Leader()
    for _ in range(PENDING_BYTES_MAX >> 20):
        leader.service.write(Frame("r", 1, bytes(1 << 20)))
    leader.service.write(Frame("r", 2, b"x"))
    (reply,) = leader.service.replies
    assert reply.refusal is not None
    assert (reply.refusal.code, reply.refusal.retry_after_ms > 0) == (Code.OVERLOADED, True)


def test_a_follower_refuses_and_names_the_leader() -> None:
    leader = Leader()
    leader.ready, leader.leader = False, 3
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.read(Frame("r", 2, REGISTER))
    assert [reply.refusal.leader for reply in leader.service.replies if reply.refusal] == [3, 3]
    assert leader.codes() == [Code.NOT_LEADER] * 2


def test_losing_office_refuses_what_was_not_proposed_and_waits_for_what_was() -> None:
    leader = Leader()
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.service.write(Frame("r", 2, REGISTER))
    leader.ready = False
    leader.service.turn(0.0)
    assert leader.codes() == [Code.NOT_LEADER]
    leader.commit()
    (reply,) = leader.service.replies
    assert reply.answers is not None


def test_an_index_lost_to_another_term_is_a_certain_refusal() -> None:
    leader = Leader()
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.ready = False
    leader.apply(2, 2, None)
    assert leader.codes() == [Code.NOT_LEADER]


def test_an_entry_under_another_term_than_its_stamp_is_a_certain_refusal() -> None:
    leader = Leader()
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.service.applied(Applied(2, 1, EntryResult(refused=True), False))
    assert leader.codes() == [Code.NOT_LEADER]


def test_what_a_snapshot_covered_is_unknown_and_never_called_rejected() -> None:
    leader = Leader()
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.ready = False
    leader.applied_index = 50
    leader.service.turn(0.0)
    assert leader.codes() == [Code.OUTCOME_UNKNOWN]


def test_a_read_is_answered_by_the_next_entry_proposed_after_it_came() -> None:
    leader = Leader()
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.service.read(Frame("r", 2, frame(1, section(0, 0, [Op(Kind.GET, 0, "a")]))))
    leader.commit()
    assert [reply.request for reply in leader.service.replies] == [1]
    leader.service.turn(0.0)
    leader.commit()
    assert leader.service.wakeup_in_ms(0.0) == 0
    leader.service.turn(0.0)
    assert [reply.request for reply in leader.service.replies] == [1, 2]


def test_reads_that_look_at_much_are_spread_over_turns() -> None:
    leader = Leader()
    much = frame(1, section(0, 0, [Op(Kind.LIST, 0, "none/")] * 50))
    for number in range(3):
        leader.service.read(Frame("r", number, much))
    leader.service.turn(0.0)
    leader.commit()
    for turns in range(1, 4):
        leader.service.turn(0.0)
        assert len(leader.service.replies) == turns


def test_a_read_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader()

    def broken(body: bytes, budget: ReadBudget) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(leader.machine, "read", broken)
    leader.service.read(Frame("r", 1, b""))
    leader.service.turn(0.0)
    leader.commit()
    leader.service.turn(0.0)
    assert leader.codes() == [Code.UNAVAILABLE]


def test_a_read_of_a_leader_that_lost_office_is_refused() -> None:
    leader = Leader()
    leader.service.read(Frame("r", 1, frame(1, section(0, 0, [Op(Kind.GET, 0, "a")]))))
    leader.service.turn(0.0)
    leader.ready = False
    leader.commit()
    assert leader.codes() == [Code.NOT_LEADER]


def test_time_alone_makes_an_entry_when_something_runs_out_and_none_before() -> None:
    leader = Leader()
    acquire = section(2, 1, [Op(Kind.ACQUIRE, 1, "a", ttl=1000, options=Options(metadata=b"x"))])
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.commit()
    number = decode_answer_list(leader.service.replies[0].answers or b"")[0].tokens[0]
    acquire.client = number
    leader.service.write(Frame("r", 2, frame(1, acquire)))
    leader.service.turn(0.0)
    leader.commit()
    assert decode_answer_list(leader.service.replies[1].answers or b"")[0].statuses == bytes([Status.OK])
    leader.service.turn(0.5)
    assert leader.log == []
    leader.service.turn(1.0)
    while leader.log:
        leader.commit()
        leader.service.turn(1.0)
    assert [event.kind for event in leader.service.events] == [EventKind.LOST]


def test_the_stopwatch_is_read_when_the_entry_is_closed() -> None:
    """An operation that joins a waiting frame must not get a deadline that counts from before it was sent."""
    leader = Leader()
    for _ in range(ENTRIES_IN_FLIGHT_MAX):
        leader.service.write(Frame("r", 1, REGISTER))
        leader.service.turn(0.0)
    leader.service.write(Frame("r", 2, REGISTER))
    leader.service.turn(1.0)
    leader.service.write(Frame("r", 3, REGISTER))
    leader.commit(1)
    leader.service.turn(5.0)
    parsed = parse_entry(leader.log[-1][2])
    assert parsed is not None
    _, elapsed_ms, frames = parsed
    assert (elapsed_ms, len(frames)) == (5000, 2)


def test_what_one_entry_could_not_free_makes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREED_PER_ENTRY_MAX", 1)
    leader = Leader()
    leader.service.write(Frame("r", 1, REGISTER))
    leader.service.turn(0.0)
    leader.commit()
    number = decode_answer_list(leader.service.replies[0].answers or b"")[0].tokens[0]
    acquires = [Op(Kind.ACQUIRE, seq, f"lock{seq}", ttl=1000) for seq in range(1, 6)]
    leader.service.write(Frame("r", 2, frame(1, section(number, 1, acquires))))
    leader.service.turn(0.0)
    leader.commit()
    leader.service.turn(1.0)
    while leader.log:
        leader.commit()
        leader.service.turn(1.0)
    assert [event.kind for event in leader.service.events] == [EventKind.LOST] * 5


def test_a_caller_that_is_gone_has_nothing_proposed_any_more() -> None:
    leader = Leader()
    leader.service.write(Frame("gone", 1, REGISTER))
    leader.service.write(Frame("here", 2, REGISTER))
    leader.service.drop_caller("gone")
    leader.service.turn(0.0)
    leader.commit()
    assert [reply.caller for reply in leader.service.replies] == ["here"]


def impatient(request: int, *patience_ms: int, arrived: float = 0.0) -> Frame:
    body = REGISTER if len(patience_ms) == 1 else encode([msgspec.Raw(REGISTER[1:])] * len(patience_ms))
    asked = FrameRequest(list(patience_ms), msgspec.Raw(body))
    return read_frame("r", request, encode(asked), arrived)[0]


def told(leader: Leader) -> dict[int, list[bool]]:
    """By request: of each section whether it was carried out."""
    taken, leader.service.replies = leader.service.replies, []
    return {reply.request: [bytes(raw) != DROPPED for raw in decode_raw_list(reply.answers or b"")] for reply in taken}


def test_what_nobody_waits_for_any_more_is_not_proposed() -> None:
    leader = Leader()
    for _ in range(ENTRIES_IN_FLIGHT_MAX):
        leader.service.write(Frame("r", 1, REGISTER))
        leader.service.turn(0.0)
    leader.service.write(impatient(2, 100))
    leader.service.write(impatient(3, 100, 0, 300))
    leader.service.write(impatient(4, 300))
    leader.commit()
    leader.service.replies.clear()
    leader.service.turn(0.2)
    leader.commit()
    assert told(leader) == {2: [False], 3: [False, True, True], 4: [True]}
    assert leader.machine.counts()["clients"] == ENTRIES_IN_FLIGHT_MAX + 3


def test_when_nobody_waits_for_anything_there_is_no_entry() -> None:
    leader = Leader()
    leader.service.write(impatient(1, 100))
    leader.service.read(impatient(2, 100))
    leader.service.turn(0.1)
    assert leader.log == []
    assert told(leader) == {1: [False], 2: [False]}
    assert leader.service.wakeup_in_ms(0.1) is None
    leader.service.write(impatient(3, 100, arrived=0.1))
    leader.service.turn(0.1)
    leader.commit()
    assert told(leader) == {3: [True]}


def test_a_read_that_waits_for_its_turn_is_looked_at_again() -> None:
    leader = Leader()
    look = frame(1, section(0, 0, [Op(Kind.GET, 0, "a")]))
    leader.service.read(read_frame("r", 1, encode(FrameRequest([100], msgspec.Raw(look))), 0.0)[0])
    leader.service.turn(0.0)
    leader.commit()
    leader.service.turn(0.1)
    assert told(leader) == {1: [False]}


def test_what_waits_while_the_window_has_room_makes_the_next_turn_due() -> None:
    leader = Leader()
    assert leader.service.wakeup_in_ms(0.0) is None
    leader.service.write(Frame("r", 1, REGISTER))
    assert leader.service.wakeup_in_ms(0.0) == 0
    for _ in range(ENTRIES_IN_FLIGHT_MAX):
        leader.service.turn(0.0)
        leader.service.write(Frame("r", 1, REGISTER))
    assert leader.service.wakeup_in_ms(0.0) is None, "only an applied entry makes room"
    leader.ready = False
    assert leader.service.wakeup_in_ms(0.0) == 0, "to be refused"


def test_a_leader_that_hands_over_refuses_at_once_and_does_not_spin() -> None:
    leader = Leader()
    leader.service.write(Frame("a", 1, REGISTER))
    leader.service.turn(0.0)
    leader.commit()
    leader.codes()
    due = leader.service.due_in_ms(1e9)
    assert due == 0, "the client's row has run out, so an entry is due"
    leader.handing_over = True
    leader.service.write(Frame("a", 2, REGISTER))
    assert leader.codes() == [Code.NOT_LEADER]
    leader.service.turn(1e9)
    assert leader.service.wakeup_in_ms(1e9) is None, "found by the simulator: it ran round and round until it was over"
    leader.handing_over = False
    assert leader.service.wakeup_in_ms(1e9) == 0
