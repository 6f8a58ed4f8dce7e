"""``make extent``, for a moment and with little: everything that it measures is measured, and adds up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from holdfast.cluster import LocalCluster
from loadtests.extent import __main__ as extent
from loadtests.extent import million
from loadtests.extent.expiring import expiring
from loadtests.extent.flat import Flat, Level, by_locks
from loadtests.extent.holders import Holders, HoldersFailed
from loadtests.extent.names import names
from loadtests.extent.probe import Probe
from loadtests.extent.rows import memory
from loadtests.extent.sessions import sessions
from loadtests.extent.waiters import waiters
from loadtests.spread import Spread


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is looked at: nothing needs to warm up."""
    monkeypatch.setattr("holdfast.bench.harness.WARM_UP_S", 0.1)
    monkeypatch.setattr("loadtests.extent.expiring.WARM_UP_S", 0.3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


def comes_to_hold(cluster: LocalCluster, most: int) -> bool:
    """A follower hears with the next heartbeat what its leader has done."""
    deadline = time.monotonic() + 5.0
    while sum(group.held for group in cluster.status().nodes[0].groups) > most:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_nothing_of_many_names_is_held_afterwards(cluster: LocalCluster) -> None:
    seen = await names(cluster, 500)
    assert seen.held_afterwards == 0
    assert [*seen.memory_mib] == ["start", "first", "second"]
    assert "0 held afterwards" in seen.line


async def test_all_waiters_have_as_many_turns(cluster: LocalCluster) -> None:
    seen = await waiters(cluster, few=2, many=20, repetitions=2, seconds=0.3, long=5, long_s=1.0)
    assert [turns.waiters for turns in (*seen.few, *seen.many)] == [2, 2, 20, 20]
    assert all(turns.cpu_us > 0 and turns.hand_off_ms for turns in (*seen.few, *seen.many))
    assert seen.long.grants_max - seen.long.grants_min <= 1, "first come, first served"
    assert "5 clients came back" in seen.line


def test_sessions_are_kept_alive(cluster: LocalCluster) -> None:
    seen = sessions(cluster, 20, processes=2, ttl_s=3.0, seconds=3.5)
    assert seen.still_held == 20, "which none is after three seconds without a keepalive"
    assert seen.cores.total > 0
    assert comes_to_hold(cluster, 0)
    assert "20 still held after 3.5 s" in seen.line


def test_all_leases_of_who_is_killed_run_out_within_the_second_that_is_looked_at(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.extent.expiring.TTL_S", 1.0)
    monkeypatch.setattr("loadtests.extent.expiring.WITHIN_S", 0.5)
    seen = expiring(cluster, 50, rounds=1)
    assert seen.left_held <= 64, "but for what others hold for the moment"
    assert seen.rounds[0].before.cycles > 0
    assert seen.rounds[0].during.cycles > 0
    assert seen.p99_ratio is not None
    assert "50 leases run out" in seen.line


def test_a_cycle_is_measured_beside_what_is_held(cluster: LocalCluster) -> None:
    seen = by_locks(cluster, [10, 30], repetitions=1, seconds=0.3)
    assert [level.of for level in seen.levels] == [10, 30]
    assert all(level.cpu_us and set(level.leaders) == {1, 2} for level in seen.levels)
    assert seen.again is not None
    assert comes_to_hold(cluster, 10)
    assert "10 again at the end" in seen.line


def test_costs_under_other_leaders_are_called_doubtful() -> None:
    def level(of: int, leader: int) -> Level:
        return Level(of, Spread(50.0, 49.0, 51.0), None, None, {1: leader}, {})

    assert Flat("locks held", [level(10, 1), level(20, 1)], level(10, 1)).line.endswith("10 again at the end 50.0")
    assert "LEADERS MOVED" in Flat("locks held", [level(10, 1), level(20, 2)], level(10, 2)).line


def test_pauses_are_seen_and_snapshots_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million, "QUIET_S", 0.3)
    monkeypatch.setattr(million, "SNAPSHOT_S_MAX", 0.5)
    with LocalCluster() as cluster:
        seen = million.million(cluster, 200)
    assert seen.still_held == 200
    assert seen.snapshots == 0, "so little is not due within half a second"
    for look in (seen.empty, seen.pressed_empty, seen.held, seen.pressed):
        assert look.cycles > 0
        assert look.cycle_ms is not None
        assert look.pause_ms < 500
    assert "200 locks held" in seen.line


def test_a_pause_is_the_longest_time_without_an_answer(cluster: LocalCluster) -> None:
    probe = Probe(cluster)
    probe._ended.extend([10.0, 10.1, 10.4])
    probe._took.extend([0.1, 0.1, 0.3])
    assert probe.look(10.0, 11.0).pause_ms == 600.0, "the end counts"
    assert probe.look(9.9, 10.5).pause_ms == 300.0
    assert probe.look(10.05, 10.5).cycles == 2


def test_who_cannot_hold_ends_the_measurement(cluster: LocalCluster) -> None:
    holders = Holders(cluster, 10, ttl_s=0.001)
    with pytest.raises(HoldersFailed), holders:
        pytest.fail("no lease is that short")
    assert holders.pids == []


def test_a_held_lock_costs_less_than_700_bytes_compiled_and_pure() -> None:
    seen = memory(50_000)
    assert not seen.every[-1].compiled
    for rows in seen.every:
        assert 300 < rows.session_bytes < rows.plain_bytes < 700
    assert "pure, 50,000 held" in seen.line


def test_groups_are_measured_idle_and_busy(capsys: pytest.CaptureFixture[str]) -> None:
    words = "groups --levels 1 3 --repetitions 1 --seconds 0.3 --idle 0.5 --nodes 4"
    extent.main(words.split())
    said = capsys.readouterr()
    seen = json.loads(said.out)
    assert [level["of"] for level in seen["cost"]["levels"]] == [1, 3]
    assert [*seen["idle_node"]] == ["1", "3"]
    assert len(seen["cost"]["levels"][1]["leaders"]) == 3
    assert "groups over 4 nodes" in said.err


@pytest.mark.parametrize("words", ["names --count x", "everything", ""])
def test_what_cannot_be_measured_is_told(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        extent.options_of(words.split())
    assert ended.value.code == 2
    assert "python -m loadtests.extent" in capsys.readouterr().err
