"""One group's queue, window and leader, with a clock turned by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.errors import Code
from holdfast.wire.frames import Answers, decode_raw_list, encode
from holdfast.wire.limits import FRAME_BYTES_MAX, SECTIONS_PER_FRAME_MAX
from holdfast.wire.messages import GroupRole, Msg, Refusal, decode_frame_request
from holdfast_router.breaker import PROBE_S_MIN, SILENT_S
from holdfast_router.dispatch import GroupDispatch
from holdfast_router.fair_queue import QUEUE_BYTES_MAX
from holdfast_router.flight_limit import FRAMES_IN_FLIGHT_MAX, LIMIT_MAX, LIMIT_MIN
from holdfast_router.item import Frame, Item
from holdfast_router.lane import MARGIN, WAIT_S_MAX
from holdfast_router.resend_budget import FLOOR

ANSWER = encode(Answers(b"\x00", [1], [0], {}))


def item(
    request: int = 1,
    *,
    deadline: float = 10.0,
    size: int = 10,
    kind: int = int(Msg.OPS),
    tenant: int = 1,
    operations: int = 1,
    exempt: bool = False,
    arrived: float = 0.0,
) -> Item:
    body = encode(bytes(max(size - 3, 0)))
    return Item(
        "sdk", request, kind, body, deadline,
        operations=operations, tenant=tenant, exempt=exempt, arrived=arrived,
    )  # fmt: skip


def led(node: int = 1, term: int = 1) -> GroupDispatch:
    dispatch = GroupDispatch(7)
    dispatch.role(node, GroupRole(7, term, node, True))
    return dispatch


def sent(dispatch: GroupDispatch, now: float = 0.0) -> list[Frame]:
    dispatch.turn(now)
    frames, dispatch.frames = dispatch.frames, []
    return frames


def count_of(frame: Frame) -> int:
    return len(decode_raw_list(decode_frame_request(frame.body).frame))


def answer(dispatch: GroupDispatch, frame: Frame, now: float = 0.0) -> None:
    dispatch.answered(frame.request, encode([msgspec.Raw(ANSWER)] * count_of(frame)), now)


def outcomes(dispatch: GroupDispatch) -> list[tuple[int, int | None]]:
    taken, dispatch.outcomes = dispatch.outcomes, []
    return [(out.item.request, out.refusal.code if out.refusal else None) for out in taken]


def test_one_section_leaves_at_once_and_its_answer_comes_back_as_it_was() -> None:
    dispatch = led()
    dispatch.submit(item())
    (frame,) = sent(dispatch)
    assert (frame.node, count_of(frame)) == (1, 1)
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
    assert count_of(gathered) == 20


def test_a_frame_stays_within_its_bounds() -> None:
    dispatch = led()
    for request in range(SECTIONS_PER_FRAME_MAX + 1):
        dispatch.submit(item(request))
    assert [count_of(frame) for frame in sent(dispatch)] == [SECTIONS_PER_FRAME_MAX, 1]
    dispatch = led()
    for request in range(3):
        dispatch.submit(item(request, size=FRAME_BYTES_MAX // 2 + 1))
    assert all(len(decode_frame_request(frame.body).frame) <= FRAME_BYTES_MAX for frame in sent(dispatch))


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


def test_a_frame_says_how_long_each_section_is_waited_for() -> None:
    dispatch = led()
    dispatch.submit(item(1, deadline=0.5))
    dispatch.submit(item(2, deadline=10.0))
    dispatch.submit(item(3, deadline=0.5, exempt=True))
    (frame,) = sent(dispatch, 0.2)
    assert decode_frame_request(frame.body).patience_ms == [0, 300, 9800]
    assert requests_of(frame, dispatch) == [3, 1, 2]


def test_what_a_leader_left_out_is_rejected_unless_an_earlier_copy_may_live() -> None:
    dispatch = led()
    dispatch.submit(item(1))
    sent(dispatch)
    dispatch.disconnected(1)
    dispatch.role(2, GroupRole(7, 2, 2, True))
    dispatch.submit(item(2))
    dispatch.submit(item(3))
    (frame,) = sent(dispatch)
    dispatch.answered(frame.request, encode([None, None, msgspec.Raw(ANSWER)]), 0.0)
    assert outcomes(dispatch) == [(1, Code.OUTCOME_UNKNOWN), (2, Code.OVERLOADED), (3, None)]


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


def test_a_tenant_fills_half_of_the_queue_and_is_refused_with_a_time_and_others_find_room() -> None:
    dispatch = GroupDispatch(7)
    for request in range(QUEUE_BYTES_MAX >> 21):
        dispatch.submit(item(request, size=1 << 20))
    dispatch.submit(item(999))
    (out,) = dispatch.outcomes
    assert out.refusal is not None
    assert (out.refusal.code, out.refusal.retry_after_ms > 0) == (Code.OVERLOADED, True)
    dispatch.outcomes.clear()
    dispatch.submit(item(1000, size=QUEUE_BYTES_MAX // 4, tenant=2))
    assert outcomes(dispatch) == []


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


class Untouched(Item):
    """Whatever reads or writes it is noted."""

    touched = 0

    def __getattribute__(self, name: str) -> object:
        Untouched.touched += 1
        return super().__getattribute__(name)


def test_a_caller_that_goes_costs_what_it_had_and_not_what_all_have() -> None:
    dispatch = led()
    for request in range(1000):
        each = item(request, tenant=request % 10)
        dispatch.submit(Untouched("another", request, each.kind, each.body, each.deadline, tenant=each.tenant))
        if request % 100 == 0:
            dispatch.submit(item(request, tenant=11))
            sent(dispatch)
    waiting = len(dispatch.lanes[Msg.OPS])
    Untouched.touched = 0
    dispatch.drop_caller("sdk")
    assert Untouched.touched == 0
    assert 0 < waiting - len(dispatch.lanes[Msg.OPS]) <= 10
    assert list(dispatch._of) == ["another"]


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
    dispatch.lanes[Msg.OPS].limit.limit = LIMIT_MAX
    for request in range(20):
        found = item(request)
        found.operations = 2048
        dispatch.submit(found)
    frames = sent(dispatch)
    assert [count_of(frame) for frame in frames] == [8, 8, 4]


def test_what_is_past_its_deadline_leaves_its_room_also_behind_others() -> None:
    dispatch = GroupDispatch(7)
    dispatch.submit(item(1, deadline=60.0))
    for request in range(2, 34):
        dispatch.submit(item(request, deadline=1.0, size=QUEUE_BYTES_MAX // 64 - 10))
    assert outcomes(dispatch) == []
    dispatch.expire(1.0)
    assert len(outcomes(dispatch)) == 32
    dispatch.submit(item(100, size=QUEUE_BYTES_MAX // 2 - 100))
    assert outcomes(dispatch) == []


# Many tenants.


def requests_of(frame: Frame, dispatch: GroupDispatch) -> list[int]:
    """Whose sections a frame has, in their order."""
    return [each.request for each in dispatch._flights[frame.request].items]


def filled(dispatch: GroupDispatch) -> list[Frame]:
    """The window, with sections of tenant 9."""
    frames: list[Frame] = []
    for request in range(900, 900 + FRAMES_IN_FLIGHT_MAX):
        dispatch.submit(item(request, tenant=9))
        frames += sent(dispatch)
    return frames


def test_tenants_leave_in_turn_whoever_has_more_waiting() -> None:
    dispatch = led()
    frames = filled(dispatch)
    for request in range(100):
        dispatch.submit(item(request, tenant=1))
    dispatch.submit(item(100, tenant=2))
    answer(dispatch, frames[0])
    (frame,) = sent(dispatch)
    assert requests_of(frame, dispatch).index(100) <= 1


def test_what_holders_need_goes_first_and_not_alone() -> None:
    dispatch = led()
    dispatch.lanes[Msg.OPS].limit.limit = LIMIT_MIN
    frames = filled(dispatch)
    for request in range(1000):
        dispatch.submit(item(request, exempt=request % 2 == 1))
    answer(dispatch, frames[0])
    (frame,) = sent(dispatch)
    found = requests_of(frame, dispatch)
    assert found[0] == 1
    exempt = sum(request % 2 for request in found)
    assert 0.7 < exempt / len(found) < 0.8


def test_the_sections_of_a_client_and_class_keep_their_order() -> None:
    dispatch = led()
    frames = filled(dispatch)
    for request in range(50):
        dispatch.submit(item(request, exempt=request % 3 == 0, tenant=request % 2, operations=1 + request % 7))
    answer(dispatch, frames[0])
    (frame,) = sent(dispatch)
    for tenant in (0, 1):
        for exempt in (True, False):
            mine = [n for n in requests_of(frame, dispatch) if n % 2 == tenant and (n % 3 == 0) == exempt]
            assert mine == sorted(mine)
            assert len(mine) > 5


# Overload.


def busy(rate: int = 1000) -> GroupDispatch:
    """A group that does ``rate`` operations a second, as it was seen to do; its window is full."""
    dispatch = led()
    filled(dispatch)
    dispatch.lanes[Msg.OPS].limit.rate = rate
    return dispatch


def test_what_cannot_be_answered_in_time_is_refused_at_once_with_the_time_that_it_lacks() -> None:
    dispatch = busy()
    for request in range(4):
        dispatch.submit(item(request, operations=20))
    assert outcomes(dispatch) == []
    dispatch.submit(item(10, deadline=0.08, operations=20))
    (out,) = dispatch.outcomes
    assert out.refusal is not None
    assert out.refusal.code == Code.OVERLOADED
    lacks_ms = 80 - (80 - 5) / MARGIN
    assert lacks_ms <= out.refusal.retry_after_ms < lacks_ms + 10


def test_no_queue_grows_longer_than_its_longest_wait() -> None:
    rate, size = 1000, 10
    dispatch = busy(rate)
    longest = int(WAIT_S_MAX * rate)
    for request in range(100):
        dispatch.submit(item(request, operations=size, deadline=60.0))
    assert longest < dispatch.lanes[Msg.OPS].operations <= longest + 2 * size
    retry_ms = [out.refusal.retry_after_ms for out in dispatch.outcomes if out.refusal is not None]
    assert len(retry_ms) > 70
    assert all(500 * WAIT_S_MAX <= each <= 600 * WAIT_S_MAX for each in retry_ms)


def test_what_waited_in_vain_before_a_living_leader_is_told_that_it_is_busy() -> None:
    dispatch = led()
    filled(dispatch)
    dispatch.submit(item(1, deadline=1.0))
    dispatch.expire(1.0)
    assert (1, Code.OVERLOADED) in outcomes(dispatch)


def test_another_tenants_queue_does_not_make_a_section_late() -> None:
    dispatch = busy()
    for request in range(5):
        dispatch.submit(item(request, operations=20))
    dispatch.submit(item(100, deadline=0.1, tenant=2))
    assert outcomes(dispatch) == []


def test_what_holders_need_is_never_refused_for_load() -> None:
    dispatch = busy()
    for request in range(100):
        dispatch.submit(item(request, operations=50, exempt=True, deadline=0.1))
    assert outcomes(dispatch) == []


def test_an_estimate_refuses_nobody_while_nothing_waits() -> None:
    dispatch = led()
    limit = dispatch.lanes[Msg.OPS].limit
    limit.rate, limit.flight_s = 1.0, 10.0
    dispatch.submit(item(1, deadline=0.1))
    assert len(sent(dispatch)) == 1


# Breaker and budget.


def test_a_group_that_answers_nothing_is_given_up_until_it_is_probed() -> None:
    dispatch = GroupDispatch(7)
    dispatch.submit(item(1, deadline=60.0))
    dispatch.expire(SILENT_S)
    dispatch.submit(item(2, arrived=SILENT_S))
    (out,) = dispatch.outcomes
    assert out.refusal is not None
    assert (out.refusal.code, out.refusal.retry_after_ms) == (Code.UNAVAILABLE, int(1000 * PROBE_S_MIN))
    dispatch.outcomes.clear()
    dispatch.submit(item(3, arrived=SILENT_S, exempt=True))
    dispatch.submit(item(4, arrived=SILENT_S + PROBE_S_MIN))
    assert outcomes(dispatch) == []
    dispatch.role(1, GroupRole(7, 1, 1, True))
    for frame in sent(dispatch, SILENT_S + 1):
        answer(dispatch, frame, SILENT_S + 1)
    assert {request for request, code in outcomes(dispatch) if code is None} == {1, 3, 4}
    dispatch.submit(item(5, arrived=SILENT_S + 1))
    assert outcomes(dispatch) == []


def test_a_leader_that_denies_it_is_asked_with_one_section() -> None:
    dispatch = led()
    for request in range(5):
        dispatch.submit(item(request))
    (frame,) = sent(dispatch)
    dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, 0), 0.0)
    (frame,) = sent(dispatch, 1.0)
    assert requests_of(frame, dispatch) == [0]
    assert sent(dispatch, 2.0) == []
    answer(dispatch, frame, 2.0)
    (frame,) = sent(dispatch, 2.0)
    assert requests_of(frame, dispatch) == [1, 2, 3, 4]


def test_beyond_the_budget_what_comes_back_is_answered_and_not_sent_again() -> None:
    dispatch = led(1)
    dispatch.submit(item(1, deadline=1e9))
    node = 1
    for _ in range(FLOOR):
        (frame,) = sent(dispatch)
        node = 3 - node
        dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, node), 0.0)
    assert outcomes(dispatch) == []
    dispatch.submit(item(2, deadline=1e9))
    (frame,) = sent(dispatch)
    assert requests_of(frame, dispatch) == [1, 2]
    dispatch.refused(frame.request, Refusal(Code.NOT_LEADER, "", 0, 3), 0.0)
    assert outcomes(dispatch) == [(1, Code.UNAVAILABLE), (2, Code.UNAVAILABLE)]
    dispatch.submit(item(3, deadline=1e9))
    sent(dispatch)
    dispatch.disconnected(3)
    assert outcomes(dispatch) == [(3, Code.OUTCOME_UNKNOWN)]
    assert not dispatch.busy


# All promises at once.


@given(st.data())
def test_whatever_nodes_do_every_section_ends_once_and_rejected_means_that_no_copy_lives(data: st.DataObject) -> None:
    dispatch = GroupDispatch(7)
    living: dict[int, int] = {}
    ended: dict[int, int | None] = {}
    frames: dict[int, list[int]] = {}
    now, asked, term = 0.0, 0, 0
    steps = st.sampled_from(["ask", "ask", "turn", "turn", "answer", "refuse", "lead", "break", "unsent", "wait"])
    for step in data.draw(st.lists(steps, max_size=60)):
        now += 0.01
        if step == "ask":
            asked += 1
            dispatch.submit(
                item(asked, deadline=now + 0.3, arrived=now, tenant=asked % 3, operations=asked % 5 * 300 + 1)
            )
        elif step == "lead":
            term += 1
            node = data.draw(st.integers(1, 3))
            dispatch.role(node, GroupRole(7, term, node, True))
        elif step == "break":
            dispatch.disconnected(data.draw(st.integers(1, 3)))
        elif step == "wait":
            dispatch.expire(now := now + 0.1)
        elif step == "turn" or step == "unsent":
            for frame in sent(dispatch, now):
                frames[frame.request] = requests_of(frame, dispatch) if frame.request in dispatch._flights else []
                if step == "unsent":
                    dispatch.unsent(frame)
                    del frames[frame.request]
                else:
                    for request in frames[frame.request]:
                        living[request] = living.get(request, 0) + 1
        elif frames:
            chosen = data.draw(st.sampled_from(sorted(frames)))
            carried = frames.pop(chosen)
            if step == "answer":
                dispatch.answered(chosen, encode([msgspec.Raw(ANSWER)] * len(carried)), now)
                continue
            code = data.draw(st.sampled_from([Code.NOT_LEADER, Code.OVERLOADED, Code.OUTCOME_UNKNOWN, Code.TOO_LARGE]))
            if chosen in dispatch._flights and code != Code.OUTCOME_UNKNOWN:
                for request in carried:
                    living[request] -= 1
            dispatch.refused(chosen, Refusal(code, "", 1, data.draw(st.integers(0, 3))), now)
        for request, refused in outcomes(dispatch):
            assert request not in ended
            ended[request] = refused
            if refused not in (None, Code.OUTCOME_UNKNOWN):
                assert not living.get(request)
    dispatch.expire(now + 1.0)
    assert len(outcomes(dispatch)) + len(ended) == asked


def burst(dispatch: GroupDispatch, now: float, count: int = 100) -> list[int | None]:
    """So many sections of one tenant in one turn: refusals at once."""
    dispatch.outcomes.clear()
    for request in range(count):
        dispatch.submit(item(1000 + request, arrived=now, deadline=now + 10.0))
    return [code for _, code in outcomes(dispatch)]


def test_a_stall_that_met_few_sections_refuses_no_burst_afterwards() -> None:
    dispatch, frames = led(), []
    for request in range(FRAMES_IN_FLIGHT_MAX + 1):
        dispatch.submit(item(request))
        frames += sent(dispatch)
    assert len(frames) == FRAMES_IN_FLIGHT_MAX, "one waits"
    for frame in frames:
        answer(dispatch, frame, now=1.0)
    (last,) = sent(dispatch, now=1.0)
    dispatch.submit(item(99, arrived=1.0, deadline=11.0))
    assert burst(dispatch, 1.0) == []
    answer(dispatch, last, now=1.002)


def test_how_slow_a_group_was_is_forgotten_when_nothing_waits_any_more() -> None:
    dispatch = led()
    for request in range(LIMIT_MAX):
        dispatch.submit(item(request, deadline=6.0))
    frames = sent(dispatch)
    for frame in frames:
        answer(dispatch, frame, now=5.0)
    assert burst(dispatch, 5.0, 1) == [Code.OVERLOADED], "much waits for a group that was slow"
    dispatch.expire(6.0)
    assert not dispatch.busy
    assert burst(dispatch, 6.0, 2_000) == []
