"""Tenants share by weight, each in its own order, and nobody takes all the room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast_router.fair_queue import QUEUE_BYTES_MAX, QUEUE_SECTIONS_MAX, FairQueue
from holdfast_router.item import Item


def item(tenant: int, operations: int = 1, *, weight: int = 1, request: int = 0, size: int = 1) -> Item:
    return Item("sdk", request, 0, bytes(size), 10.0, operations=operations, tenant=tenant, weight=weight)


def served(queue: FairQueue, operations: int) -> dict[int, int]:
    """Operations of each tenant among the next ``operations``."""
    found: dict[int, int] = {}
    while sum(found.values()) < operations:
        taken = queue.pop()
        found[taken.tenant] = found.get(taken.tenant, 0) + taken.operations
    return found


def test_one_tenant_is_first_come_first_served() -> None:
    queue = FairQueue()
    for request in range(10):
        queue.push(item(1, request + 1, request=request))
    assert [queue.pop().request for _ in range(10)] == list(range(10))


def test_whoever_has_much_waiting_does_not_keep_another_waiting() -> None:
    queue = FairQueue()
    for _ in range(1000):
        queue.push(item(1))
    served(queue, 100)
    queue.push(item(2))
    assert queue.pop().tenant == 2 or queue.pop().tenant == 2


def test_a_rest_earns_nothing() -> None:
    queue = FairQueue()
    for _ in range(1000):
        queue.push(item(1))
    served(queue, 500)
    for _ in range(500):
        queue.push(item(2))
    found = served(queue, 100)
    assert abs(found[1] - found[2]) <= 2


def test_what_was_taken_is_remembered_while_others_are_served() -> None:
    """Who empties its queue again and again gets no more than who keeps it full."""
    queue = FairQueue()
    for _ in range(1000):
        queue.push(item(1, 10))
    taken = {1: 0, 2: 0}
    for _ in range(200):
        if not queue.ahead(2, 1):
            queue.push(item(2, 10))
        taken[queue.pop().tenant] += 1
    assert abs(taken[1] - taken[2]) <= 2


@given(
    weights=st.tuples(st.integers(1, 1000), st.integers(1, 1000)),
    costs=st.lists(st.tuples(st.integers(1, 2048), st.integers(1, 2048)), min_size=5, max_size=60),
)
def test_two_that_always_have_something_waiting_share_by_weight(
    weights: tuple[int, int], costs: list[tuple[int, int]]
) -> None:
    """The theorem of the paper: work / weight never differs by more than one section's of each."""
    queue = FairQueue()
    for pair in costs:
        for tenant, (cost, weight) in enumerate(zip(pair, weights, strict=True)):
            queue.push(item(tenant, cost, weight=weight))
    bound = sum(max(pair[tenant] for pair in costs) / weights[tenant] for tenant in (0, 1))
    work = [0.0, 0.0]
    left = [len(costs), len(costs)]
    while all(left):
        taken = queue.pop()
        left[taken.tenant] -= 1
        work[taken.tenant] += taken.operations / taken.weight
        assert abs(work[0] - work[1]) <= bound * (1 + 1e-9)


def test_what_comes_back_goes_first_in_its_order_and_is_not_charged_again() -> None:
    queue = FairQueue()
    for request in range(6):
        queue.push(item(1 + request % 2, 100, request=request))
    gone = [queue.pop() for _ in range(4)]
    for each in reversed(gone):
        queue.put_back(each)
    assert [queue.pop().request for _ in range(6)] == list(range(6))


def test_after_a_rest_of_the_group_all_are_equal_again() -> None:
    queue = FairQueue()
    queue.push(item(1, 2048))
    queue.pop()
    queue.rest()
    queue.push(item(1))
    queue.push(item(2))
    assert [queue.pop().tenant, queue.pop().tenant] == [1, 2]


def test_however_many_flood_a_newcomer_finds_room() -> None:
    for size, bound in ((QUEUE_BYTES_MAX // 4096, QUEUE_BYTES_MAX), (1, QUEUE_SECTIONS_MAX)):
        queue = FairQueue()
        for tenant in range(3):
            while queue.has_room(each := item(tenant, size=size)):
                queue.push(each)
        assert (queue.bytes if size > 1 else queue.sections) < bound * 0.9
        assert queue.has_room(item(9, size=size))


STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["push", "pop", "back", "remove"]), st.integers(1, 9)))


@given(STEPS)
def test_its_counts_are_those_of_what_waits(steps: list[tuple[int, str, int]]) -> None:
    queue = FairQueue()
    waiting: list[Item] = []
    for tenant, step, cost in steps:
        if step == "push":
            queue.push(each := item(tenant, cost, size=cost))
            waiting.append(each)
        elif not waiting:
            assert queue.head() is None
        elif step == "remove":
            queue.remove(gone := waiting.pop(cost % len(waiting)))
            queue.remove(gone)
        else:
            head = queue.head()
            taken = queue.pop()
            assert taken is head
            if step == "back":
                queue.put_back(taken)
            else:
                waiting.remove(taken)
        assert (queue.sections, queue.operations) == (len(waiting), sum(each.operations for each in waiting))
        assert queue.bytes == sum(len(each.body) for each in waiting)
    while waiting:
        assert queue.head() is not None
        waiting.remove(queue.pop())
    assert (queue.head(), len(queue)) == (None, 0)


@given(st.permutations(range(12)), st.integers(1, 11))
def test_what_is_taken_out_costs_its_tenant_nothing(order: list[int], taken: int) -> None:
    """Whatever leaves the queue so, and whenever: those that stay share as if the others had never come."""
    queue = FairQueue()
    items = [item(tenant=1 + request % 2, operations=10, request=request) for request in range(12)]
    for each in items:
        queue.push(each)
    first = queue.pop()
    for at in order[:taken]:
        queue.remove(items[at])
    kept = [each for at, each in enumerate(items) if at not in order[:taken] and each is not first]
    served_to = {1: 0, 2: 0}
    served_to[first.tenant] += 1
    mine = {tenant: [each.request for each in kept if each.tenant == tenant] for tenant in (1, 2)}
    while len(queue):
        both = all(mine.values())
        each = queue.pop()
        assert each.request == mine[each.tenant].pop(0)
        served_to[each.tenant] += 1
        assert not both or abs(served_to[1] - served_to[2]) <= 1
    assert not any(mine.values())


def test_the_work_ahead_is_the_tenants_own_by_its_share() -> None:
    queue = FairQueue()
    for _ in range(100):
        queue.push(item(1, 10, weight=1))
    assert queue.ahead(2, 1) == 0
    queue.push(item(2, 10, weight=4))
    assert queue.ahead(2, 4) == 10 * 5 / 4
    assert queue.ahead(1, 1) == queue.operations
