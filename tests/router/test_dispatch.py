"""One group's queue, window and leader, with a clock turned by hand."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import Answers, encode
from holdfast.wire.limits import FRAME_BYTES_MAX, SECTIONS_PER_FRAME_MAX
from holdfast.wire.messages import GroupRole, Msg, Refusal
from holdfast_router.dispatch import FRAMES_IN_FLIGHT_MAX, QUEUE_BYTES_MAX, Frame, GroupDispatch, Item

ANSWER = encode(Answers(b"\x00", [1], [0], {}))


def item(request: int = 1, *, deadline: float = 10.0, size: int = 10, kind: int = int(Msg.OPS)) -> Item:
    return Item("sdk", request, kind, encode(bytes(max(size - 3, 0))), deadline)


def led(node: int = 1, term: int = 1) -> GroupDispatch:
    dispatch = GroupDispatch(7)
    dispatch.role(node, GroupRole(7, term, node, True))
    return dispatch


def sent(dispatch: GroupDispatch, now: float = 0.0) -> list[Frame]:
    dispatch.turn(now)
    frames, dispatch.frames = dispatch.frames, []
    return frames


def answer(dispatch: GroupDispatch, frame: Frame, now: float = 0.0) -> None:
    count = len(msgspec.msgpack.decode(frame.body))
    dispatch.answered(frame.request, encode([msgspec.Raw(ANSWER)] * count), now)


def outcomes(dispatch: GroupDispatch) -> list[tuple[int, int | None]]:
    taken, dispatch.outcomes = dispatch.outcomes, []
    return [(out.item.request, out.refusal.code if out.refusal else None) for out in taken]


def test_one_section_leaves_at_once_and_its_answer_comes_back_as_it_was() -> None:
    dispatch = led()
    dispatch.submit(item())
    (frame,) = sent(dispatch)
    assert (frame.node, len(msgspec.msgpack.decode(frame.body))) == (1, 1)
    answer(dispatch, frame)
    assert dispatch.outcomes[0].answers == ANSWER


def test_what_comes_while_the_window_is_full_leaves_together() -> None:
    dispatch = led()
    frames = []
    for request in range(FRAMES_IN_FLIGHT_MAX + 20):
        dispatch.submit(item(request))
        frames += sent(dispatch)
    assert len(frames) == FRAMES_IN_FLIGHT_MAX
    answer(dispatch, frames[0])
    (gathered,) = sent(dispatch)
    assert len(msgspec.msgpack.decode(gathered.body)) == 20


def test_a_frame_stays_within_its_bounds() -> None:
    dispatch = led()
    for request in range(SECTIONS_PER_FRAME_MAX + 1):
        dispatch.submit(item(request))
    assert [len(msgspec.msgpack.decode(frame.body)) for frame in sent(dispatch)] == [SECTIONS_PER_FRAME_MAX, 1]
    dispatch = led()
    for request in range(3):
        dispatch.submit(item(request, size=FRAME_BYTES_MAX // 2 + 1))
    assert all(len(frame.body) <= FRAME_BYTES_MAX for frame in sent(dispatch))


def test_reads_and_writes_have_windows_of_their_own() -> None:
    dispatch = led()
    for request in range(20):
        dispatch.submit(item(request))
        sent(dispatch)
    dispatch.submit(item(99, kind=int(Msg.READ)))
    assert [frame.kind for frame in sent(dispatch)] == [Msg.READ]


def test_past_its_deadline_a_section_that_never_left_is_rejected_and_one_that_left_is_unknown() -> None:
    dispatch = GroupDispatch(7)
    dispatch.submit(item(1, deadline=1.0))
    sent(dispatch)
    dispatch.expire(1.0)
    assert outcomes(dispatch) == [(1, Code.UNAVAILABLE)]
    dispatch = led()
    dispatch.submit(item(2, deadline=1.0))
    sent(dispatch)
    dispatch.expire(0.999)
    assert outcomes(dispatch) == []
    dispatch.expire(1.0)
    assert outcomes(dispatch) == [(2, Code.OUTCOME_UNKNOWN)]


def test_once_sent_and_called_back_is_still_unknown_at_the_deadline() -> None:
    dispatch = led()
    dispatch.submit(item(1, deadline=1.0))
    sent(dispatch)
    dispatch.disconnected(1)
    dispatch.expire(1.0)
    assert outcomes(dispatch) == [(1, Code.OUTCOME_UNKNOWN)]


def test_a_lost_leaders_frames_go_to_the_next_in_their_order() -> None:
    dispatch = led(1, term=1)
    for request in range(3):
        dispatch.submit(item(request))
        sent(dispatch)
    dispatch.disconnected(1)
    assert sent(dispatch) == []
    dispatch.role(2, GroupRole(7, 2, 2, True))
    (frame,) = sent(dispatch)
    assert frame.node == 2
    answer(dispatch, frame)
    assert outcomes(dispatch) == [(0, None), (1, None), (2, None)]


def test_a_new_leader_gets_what_an_old_silent_one_keeps_and_late_answers_of_that_are_dropped() -> None:
    dispatch = led(1, term=1)
    dispatch.submit(item())
    (old,) = sent(dispatch)
    dispatch.role(2, GroupRole(7, 2, 2, True))
    (new,) = sent(dispatch)
    answer(dispatch, old)
    assert outcomes(dispatch) == []
    answer(dispatch, new)
    assert outcomes(dispatch) == [(1, None)]


def test_a_leader_of_an_older_term_is_not_believed() -> None:
    dispatch = led(2, term=5)
    dispatch.role(1, GroupRole(7, 4, 1, True))
    assert dispatch.leader == 2


def test_another_nodes_word_that_somebody_leads_is_not_taken_for_the_leaders() -> None:
    dispatch = GroupDispatch(7)
    dispatch.role(3, GroupRole(7, 1, 2, True))
    assert dispatch.leader == 0


def test_not_leader_with_a_hint_is_followed_and_without_one_asked_again_later() -> None:
    dispatch = led(1)
    dispatch.submit(item())
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, 3), 0.0)
    (frame,) = sent(dispatch)
    assert frame.node == 3
    dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, 0), 0.0)
    assert sent(dispatch) == []
    dispatch.role(2, GroupRole(7, 9, 2, True))
    assert sent(dispatch) == []
    (frame,) = sent(dispatch, 0.1)
    assert frame.node == 2
    assert outcomes(dispatch) == []


def test_an_overloaded_node_is_given_the_time_it_asks_for() -> None:
    dispatch = led()
    dispatch.submit(item())
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.OVERLOADED, "", 100), 1.0)
    assert sent(dispatch, 1.09) == []
    assert len(sent(dispatch, 1.11)) == 1


def test_a_refusal_that_no_retry_can_mend_reaches_the_caller() -> None:
    dispatch = led()
    dispatch.submit(item())
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.TOO_LARGE, "too large"), 0.0)
    assert outcomes(dispatch) == [(1, Code.TOO_LARGE)]


@pytest.mark.parametrize("body", [b"", b"\xc1", encode([]), encode([1, 2, 3])])
def test_answers_that_do_not_fit_are_a_refusal_and_no_crash(body: bytes) -> None:
    dispatch = led()
    dispatch.submit(item())
    (frame,) = sent(dispatch)
    dispatch.answered(frame.request, body, 0.0)
    assert outcomes(dispatch) == [(1, Code.BAD_MESSAGE)]


def test_a_full_queue_refuses_with_a_computed_time() -> None:
    dispatch = GroupDispatch(7)
    for request in range(QUEUE_BYTES_MAX >> 20):
        dispatch.submit(item(request, size=1 << 20))
    dispatch.submit(item(999))
    (out,) = dispatch.outcomes
    assert out.refusal is not None
    assert (out.refusal.code, out.refusal.retry_after_ms > 0) == (Code.OVERLOADED, True)


def test_a_caller_that_is_gone_is_neither_answered_nor_sent() -> None:
    dispatch = led()
    dispatch.submit(item(1))
    (frame,) = sent(dispatch)
    dispatch.submit(item(2))
    dispatch.drop_caller("sdk")
    assert sent(dispatch) == []
    answer(dispatch, frame)
    assert outcomes(dispatch) == []
    assert not dispatch.busy


def test_a_refusal_after_a_copy_that_may_live_is_unknown() -> None:
    dispatch = led(1)
    dispatch.submit(item())
    sent(dispatch)
    dispatch.disconnected(1)
    dispatch.role(2, GroupRole(7, 2, 2, True))
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.BAD_MESSAGE, "no"), 0.0)
    assert outcomes(dispatch) == [(1, Code.OUTCOME_UNKNOWN)]


def test_an_unknown_outcome_of_a_copy_is_unknown_at_the_deadline() -> None:
    dispatch = led(1)
    dispatch.submit(item(deadline=1.0))
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.OUTCOME_UNKNOWN, "changed its leader", 0, 2), 0.0)
    dispatch.expire(1.0)
    assert outcomes(dispatch) == [(1, Code.OUTCOME_UNKNOWN)]


def test_sections_of_one_frame_keep_their_order_when_they_are_sent_again() -> None:
    dispatch = GroupDispatch(7)
    for request in range(5):
        dispatch.submit(item(request))
    dispatch.role(1, GroupRole(7, 1, 1, True))
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, 2), 0.0)
    (frame,) = sent(dispatch)
    answer(dispatch, frame)
    assert outcomes(dispatch) == [(request, None) for request in range(5)]


def test_a_leader_whose_connection_broke_is_sent_again_what_it_may_not_have_got() -> None:
    dispatch = led(1, term=1)
    dispatch.submit(item())
    sent(dispatch)
    dispatch.disconnected(1)
    dispatch.role(1, GroupRole(7, 1, 1, True))
    (frame,) = sent(dispatch)
    answer(dispatch, frame)
    assert outcomes(dispatch) == [(1, None)]


def test_answers_that_do_not_fit_after_a_copy_that_may_live_are_unknown() -> None:
    dispatch = led(1)
    dispatch.submit(item())
    sent(dispatch)
    dispatch.disconnected(1)
    dispatch.role(2, GroupRole(7, 2, 2, True))
    (frame,) = sent(dispatch)
    dispatch.answered(frame.request, encode([]), 0.0)
    assert outcomes(dispatch) == [(1, Code.OUTCOME_UNKNOWN)]


def test_copies_that_were_certainly_refused_or_never_left_are_rejected_at_the_deadline() -> None:
    dispatch = led(1)
    dispatch.submit(item(deadline=1.0))
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, 2), 0.0)
    (frame,) = sent(dispatch)
    assert frame.node == 2
    dispatch.unsent(frame)
    dispatch.expire(1.0)
    assert outcomes(dispatch) == [(1, Code.UNAVAILABLE)]
    assert not dispatch.busy


def test_a_frame_has_a_bounded_number_of_operations() -> None:
    dispatch = led()
    for request in range(20):
        found = item(request)
        found.operations = 2048
        dispatch.submit(found)
    frames = sent(dispatch)
    assert [len(msgspec.msgpack.decode(frame.body)) for frame in frames] == [8, 8, 4]


def test_what_is_past_its_deadline_leaves_its_room_also_behind_others() -> None:
    dispatch = GroupDispatch(7)
    dispatch.submit(item(1, deadline=60.0))
    for request in range(2, 66):
        dispatch.submit(item(request, deadline=1.0, size=QUEUE_BYTES_MAX // 64 - 10))
    dispatch.expire(1.0)
    outcomes(dispatch)
    dispatch.submit(item(100, size=QUEUE_BYTES_MAX - 100))
    assert outcomes(dispatch) == []
