"""Random faults against random proposals: what was acknowledged stays, and every replica applies the same."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus.durability import Durability
from holdfast_shard.consensus.following import Following
from tests.consensus.schedules import Schedule

SEEDS = 40
LONG_SEEDS = 2000


@pytest.mark.parametrize("seed", range(SEEDS))
def test_schedule_of_three(seed: int) -> None:
    Schedule(seed).run(120)


@pytest.mark.parametrize("seed", range(10_000, 10_000 + SEEDS // 4))
def test_schedule_of_five(seed: int) -> None:
    Schedule(seed, size=5).run(120)


@pytest.mark.parametrize("seed", range(20_000, 20_000 + SEEDS // 4))
def test_schedule_of_several_groups_on_four_nodes(seed: int) -> None:
    Schedule(seed, groups={1: [1, 2, 3], 2: [2, 3, 4], 3: [1, 3, 4], 4: [4]}).run(120)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100_000, 100_000 + LONG_SEEDS))
def test_many_schedules(seed: int) -> None:
    Schedule(seed, size=3 if seed % 3 else 5).run(150)


def test_the_schedules_reach_what_they_are_meant_to_reach() -> None:
    installed = taken = acknowledged = elections = 0
    for seed in range(15):
        schedule = Schedule(seed)
        schedule.run(120)
        acknowledged += len(schedule.acknowledged)
        elections += len(schedule.cluster.leaders)
        for node in schedule.cluster.alive():
            for replica in node.host.replicas.values():
                installed += replica.installation.installed
                taken += replica.compaction.taken
    assert acknowledged > 1000
    assert elections > 50
    assert installed >= 3
    assert taken >= 15


@pytest.mark.seeds_bugs
@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [
        (Following, "committable", lambda self, term, commit: commit),
        (Durability, "term_is_durable", lambda self: True),
    ],
    ids=["commits what was not matched", "votes before the vote is durable"],
)
def test_the_schedules_catch_a_mutant(
    owner: type, name: str, replacement: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, replacement)
    for seed in range(300):
        try:
            Schedule(seed).run(120)
        except AssertionError:
            return
    pytest.fail("300 schedules found nothing")
