"""Shares of a tenant's totals: their sum never exceeds the total, and all of it can be had wherever it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest

from holdfast.wire.frames import GONE, Allotment
from holdfast.wire.tenants import Quotas
from holdfast_shard.machine.allotments import Allotments, Report, ShareRow, Use, even_split, max_min_fair

TENANT = 1
HELD = 0


def quotas(held: int, **others: int) -> Quotas:
    plenty = {"waiters": 1000, "sessions": 1000, "waiters_per_lock": 10, "ttl_ms": 60_000, "metadata_bytes": 100}
    return Quotas(1000, 1000, 1000, held, **{**plenty, **others})


@dataclass(slots=True)
class Group:
    """A lock group as far as one tenant's held locks go: durable, exact, and told by allotments alone."""

    allotment: Allotment
    used: int = 0
    refused: int = 0

    def take(self) -> bool:
        if self.used < self.allotment.held:
            self.used += 1
            return True
        self.refused += 1
        return False

    def release(self) -> None:
        self.used = max(self.used - 1, 0)

    def allot(self, allotment: Allotment) -> None:
        if allotment.version > self.allotment.version:
            self.allotment = allotment

    def use(self) -> Use:
        return Use(TENANT, self.allotment.version, (self.used, 0, 0), (self.refused, 0, 0))


@dataclass(slots=True)
class World:
    """Groups, the meta group, and a network that loses, repeats and reorders what goes between them."""

    rng: Random
    total: int
    numbers: tuple[int, ...]
    lossy: float = 0.2
    groups: dict[int, Group] = field(init=False)
    meta: Allotments = field(init=False)
    network: list[Callable[[], None]] = field(init=False)
    asked: int = 0
    early: int = 0
    """Refused though the groups together held less than the total."""

    def __post_init__(self) -> None:
        self.meta = Allotments(self.numbers, {TENANT: quotas(self.total)})
        self.groups = {number: Group(self.meta.allotment(TENANT, number)) for number in self.numbers}
        self.network = []

    # What happens.

    def take(self, number: int) -> bool:
        self.asked += 1
        had = self.groups[number].take()
        self.early += not had and self.used < self.total
        return had

    def report(self, number: int) -> None:
        report = Report(number, [self.groups[number].use()])
        self._send(lambda: self.meta.report(report))  # to whoever leads when it arrives

    def carry(self, number: int) -> None:
        for allotment in list(self.meta.unreported(number)):
            self._send(partial(self.groups[number].allot, allotment))

    def _send(self, message: Callable[[], None]) -> None:
        if self.rng.random() >= self.lossy:
            self.network += [message] * (2 if self.rng.random() < self.lossy else 1)

    def deliver(self) -> None:
        if self.network:
            self.network.pop(self.rng.randrange(len(self.network)) if self.lossy else 0)()

    def restart(self) -> None:
        """Another meta leader, from a snapshot; what was under way is lost."""
        self.network.clear()
        tenants = {TENANT: quotas(self.total)}
        self.meta = Allotments.restored(self.numbers, tenants, 2, self.meta.export())

    def set_total(self, total: int) -> None:
        self.total = total
        self.meta.set_quotas(TENANT, quotas(total))

    def settle(self) -> None:
        """Everything arrives, until nothing changes any more."""
        lossy, self.lossy = self.lossy, 0.0
        for _ in range(20):
            for number in self.numbers:
                self.report(number)
                self.carry(number)
            while self.network:
                self.deliver()
        self.lossy = lossy

    # What is promised.

    @property
    def used(self) -> int:
        return sum(group.used for group in self.groups.values())

    def promised(self) -> dict[int, int]:
        return {row.group: row.promised[HELD] for row in self.meta.export()}

    def check(self) -> None:
        promised = self.promised()
        for number, group in self.groups.items():
            assert group.used <= promised[number], f"group {number} holds more than it counts for"
            assert group.allotment.held <= promised[number]
        assert sum(promised.values()) <= self.total


def move(world: World) -> None:
    """Something at random; groups ask in phases, so that now this one and now that one wants it all."""
    rng = world.rng
    number = rng.choice(world.numbers)
    kind = rng.randrange(20)
    if kind < 7:
        world.take(number)
    elif kind < 10:
        world.groups[number].release()
    elif kind < 11:
        world.groups[number].refused = 0
    elif kind < 13:
        world.report(number)
    elif kind < 16:
        world.carry(number)
    elif kind < 19:
        world.deliver()
    elif rng.random() < 0.2:
        world.restart()


@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_random_moves_never_exceed_the_total(seed: int) -> None:
    rng = Random(seed)
    world = World(rng, rng.choice([1, 7, 10, 100]), tuple(range(1, rng.choice([2, 3, 5]))))
    moved = 0
    while moved < 1000:
        version = sum(row.version for row in world.meta.export())
        move(world)
        world.check()
        assert world.used <= world.total
        moved += 1
    assert sum(row.version for row in world.meta.export()) >= version


@pytest.mark.parametrize("seed", range(20))
def test_a_total_that_changes_takes_nothing_away_and_lets_nothing_more_in_until_it_fits(seed: int) -> None:
    rng = Random(seed)
    world = World(rng, 20, (1, 2, 3))
    for _ in range(10):
        world.set_total(rng.choice([0, 5, 19, 20, 40]))
        for _ in range(50):
            before = world.promised()
            move(world)
            after = world.promised()
            over = sum(after.values()) > world.total
            for number, group in world.groups.items():
                assert group.used <= after[number]
                assert not over or after[number] <= before[number]
        world.settle()
        for _ in range(50):
            used, promised = world.used, sum(world.promised().values())
            move(world)
            assert world.used <= max(world.total, used)
            assert sum(world.promised().values()) <= max(world.total, promised)


@pytest.mark.parametrize("total", [1, 2, 10, 11, 1000])
@pytest.mark.parametrize("groups", [1, 2, 3, 16])
def test_all_of_a_total_can_be_had_in_one_group(total: int, groups: int) -> None:
    world = World(Random(1), total, tuple(range(1, groups + 1)), lossy=0.0)
    last = world.numbers[-1]
    while world.used < total:
        before = world.used
        while world.take(last):
            pass
        world.settle()
        assert world.take(last) or before < world.used == total
    assert not world.take(last)
    world.settle()
    world.check()


@pytest.mark.parametrize("seed", range(10))
def test_all_of_a_total_can_be_had_wherever_it_is_wanted(seed: int) -> None:
    rng = Random(seed)
    world = World(rng, 10, (1, 2, 3, 4), lossy=0.0)
    for _ in range(5):
        for group in world.groups.values():
            group.used = group.refused = 0
        world.settle()
        for _ in range(world.total):
            number = rng.choice(world.numbers)
            tries = 0
            while not world.take(number):
                tries += 1
                assert tries < 4, "the group asked for more and was given none"
                world.settle()
        assert world.used == world.total
        for number in world.numbers:
            assert not world.take(number)
        world.settle()
        world.check()
        assert not any(world.take(number) for number in world.numbers)


def test_what_was_lowered_counts_until_the_group_has_said_what_it_holds() -> None:
    meta = Allotments((1, 2), {TENANT: quotas(10)})
    meta.report(Report(1, [Use(TENANT, 1, (5, 0, 0), (3, 0, 0))]))
    lowered = meta.allotment(TENANT, 2)
    assert (lowered.version, lowered.held < 5) == (2, True)
    assert meta.allotment(TENANT, 1).held == 5, "the other may still use its five"
    meta.report(Report(2, [Use(TENANT, 1, (0, 0, 0), (0, 0, 0))]))
    assert meta.allotment(TENANT, 1).held == 5, "that was said under the old version"
    meta.report(Report(2, [Use(TENANT, 2, (4, 0, 0), (0, 0, 0))]))
    assert meta.allotment(TENANT, 1).held == 6, "it held four when it heard of it"
    meta.report(Report(2, [Use(TENANT, 2, (5, 0, 0), (0, 0, 0))]))
    assert meta.allotment(TENANT, 1).held == 6, "an older report of the same version raises no promise"


def test_a_new_tenant_is_told_everywhere_until_all_have_said_so() -> None:
    meta = Allotments((1, 2, 3), {})
    meta.set_quotas(TENANT, quotas(10))
    assert [[allotment.held for allotment in meta.unreported(group)] for group in (1, 2, 3)] == [[4], [3], [3]]
    meta.report(Report(2, [Use(TENANT, 1, (0, 0, 0), (0, 0, 0))]))
    assert [len(list(meta.unreported(group))) for group in (1, 2, 3)] == [1, 0, 1]


def test_a_deleted_tenant_is_told_everywhere_and_forgotten_when_all_have_said_so() -> None:
    meta = Allotments((1, 2), {TENANT: quotas(10)})
    meta.remove(TENANT)
    gone = Allotment(TENANT, GONE, 0, 0, 0, 0, 0, 0)
    copy = Allotments.restored((1, 2), {}, 2, meta.export())
    for each in (meta, copy):
        assert [list(each.unreported(group)) for group in (1, 2)] == [[gone], [gone]]
        said = Use(TENANT, GONE, (4, 0, 0), (0, 0, 0))
        late = Use(TENANT, 1, (4, 0, 0), (0, 0, 0))
        assert each.is_news(1, said)
        assert not each.is_news(1, late), "it is being told already"
        each.report(Report(1, [late, said]))
        assert [list(each.unreported(group)) for group in (1, 2)] == [[], [gone]]
        assert not each.is_news(1, said)
        each.report(Report(2, [said]))
        assert each.export() == []
        assert each.is_news(1, late), "a late word has made a row of it again"
        each.report(Report(1, [late]))
        assert list(each.unreported(1)) == [gone]


def test_numbers_that_were_never_given_are_not_gone() -> None:
    meta = Allotments((1, 2), {TENANT: quotas(10)})
    for number in (-1, 0, TENANT + 1):
        use = Use(number, 0, (0, 0, 0), (0, 0, 0))
        assert not meta.is_news(1, use)
        meta.report(Report(1, [use]))
    meta.report(Report(9, [Use(TENANT, 0, (0, 0, 0), (0, 0, 0))]))
    assert [list(meta.unreported(group)) for group in (1, 2, 9)] == [[], [], []]
    row = ShareRow(TENANT + 1, 1, GONE, 0, *[(0, 0, 0)] * 4)
    with pytest.raises(ValueError, match="share"):
        Allotments.restored((1, 2), {TENANT: quotas(10)}, TENANT + 1, [*meta.export(), row])


def test_other_limits_are_told_without_moving_a_share() -> None:
    meta = Allotments((1, 2), {TENANT: quotas(10)})
    meta.set_quotas(TENANT, quotas(10, ttl_ms=5000))
    told = [allotment for group in (1, 2) for allotment in meta.unreported(group)]
    assert [(allotment.held, allotment.ttl_ms) for allotment in told] == [(5, 5000), (5, 5000)]
    meta.set_quotas(TENANT, quotas(10, ttl_ms=5000))
    assert [allotment.version for group in (1, 2) for allotment in meta.unreported(group)] == [2, 2]


def test_a_report_that_says_nothing_new_is_none() -> None:
    meta = Allotments((1, 2), {TENANT: quotas(10)})
    use = Use(TENANT, 1, (2, 0, 0), (0, 0, 0))
    assert meta.is_news(1, use)
    meta.report(Report(1, [use]))
    assert not meta.is_news(1, use)
    assert not meta.is_news(1, Use(TENANT, 2, (3, 0, 0), (0, 0, 0))), "nobody has told it that"
    assert not meta.is_news(9, use)
    meta.report(Report(9, [use]))
    meta.set_quotas(TENANT, quotas(10, ttl_ms=5000))
    assert meta.is_news(1, Use(TENANT, 2, (2, 0, 0), (0, 0, 0)))


def test_a_snapshot_says_it_all_and_one_of_other_tenants_is_refused() -> None:
    world = World(Random(3), 10, (1, 2, 3))
    for _ in range(300):
        move(world)
    rows = world.meta.export()
    copy = Allotments.restored(world.numbers, {TENANT: quotas(10)}, 2, rows)
    assert copy.export() == rows
    for group in world.numbers:
        assert list(copy.unreported(group)) == list(world.meta.unreported(group))
    bad: list[list[ShareRow]] = [rows[1:], [*rows, rows[0]]]
    for wrong in bad:
        with pytest.raises(ValueError, match="share"):
            Allotments.restored(world.numbers, {TENANT: quotas(10)}, 2, wrong)


def test_splits() -> None:
    assert even_split(10, 3) == [4, 3, 3]
    assert max_min_fair(10, [1, 8, 8]) == [1, 4, 5]
    assert max_min_fair(100, [1, 8, 8]) == [1, 8, 8]
    assert max_min_fair(0, [1, 2]) == [0, 0]
