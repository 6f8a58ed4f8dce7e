"""What runs out is taken when it is due, in one order, however it was placed; and nothing is promised too late."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_shard.machine.timers import Bucket, Key, Timers


class Item:
    def __init__(self, number: int, due: int) -> None:
        self.number = number
        self.due = due
        self.bucket: Bucket | None = None

    def due_key(self) -> Key:
        return (self.due, 0, 0, self.number, 0, "")


TIMES = st.one_of(st.integers(0, 300), st.integers(0, 10_000), st.integers(0, 90_000_000))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), TIMES),
        st.tuples(st.just("extend"), TIMES),
        st.tuples(st.just("discard"), TIMES),
        st.tuples(st.just("pass"), TIMES),
        st.tuples(st.just("many"), st.integers(0, 5000)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, start=st.integers(0, 10**6))
def test_items_are_taken_at_the_first_reading_at_or_after_they_are_due(
    steps: list[tuple[str, int]], start: int
) -> None:
    clock = start
    timers = Timers(clock)
    timed: dict[int, Item] = {}
    count = 0
    for what, number in steps:
        if what in ("add", "many"):
            for offset in range(80 if what == "many" else 1):
                count += 1
                item = timed[count] = Item(count, clock + 1 + number + offset)
                timers.add(item, item.due)
        elif timed and what == "extend":
            timed[min(timed)].due += number
        elif timed and what == "discard":
            timers.discard(timed.pop(max(timed)))
        elif what == "pass":
            clock += number
            expected = sorted(item.due_key() for item in timed.values() if item.due <= clock)
            taken = timers.take(clock)
            assert [item.due_key() for item in taken] == expected
            assert all(item.bucket is None for item in taken)
            timed = {at: item for at, item in timed.items() if item.due > clock}
        due = timers.next_due()
        if timed:
            assert due is not None
            assert clock < due <= min(item.due for item in timed.values())
    assert (timers.next_due() is None) == (not timed)


def test_a_lone_item_is_foretold_to_the_millisecond() -> None:
    timers = Timers()
    for due in (1, 127, 128, 5000, 86_400_000):
        item = Item(1, due)
        timers.add(item, due)
        assert timers.next_due() == due
        timers.discard(item)
        assert timers.next_due() is None


def test_far_deadlines_need_few_buckets() -> None:
    timers = Timers()
    for number in range(100_000):
        timers.add(Item(number, number * 864), number * 864)
    assert len(timers._buckets) < 600


def test_what_was_discarded_may_have_the_key_of_what_came_later() -> None:
    """A leader looks at what comes next and sweeps what is stale, a follower does not: both must take the same."""
    for looks in (True, False):
        timers = Timers()
        first = Item(7, 1151)
        timers.add(first, first.due)
        assert timers.take(1030) == []
        timers.discard(first)
        second = Item(7, 1151)
        timers.add(second, second.due)
        if looks:
            timers.next_due()
        assert timers.take(1060) == []
        assert timers.take(1200) == [second]
