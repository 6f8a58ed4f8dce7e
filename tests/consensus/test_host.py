"""Input that is not what it should be, and runs that are the same twice."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys

import msgspec
import pytest

from holdfast_shard.consensus import ReplicaConfig
from holdfast_shard.consensus.messages import Append, Beat, Bundle, decode, encode
from tests.consensus.cluster import Cluster
from tests.consensus.schedules import Schedule


def test_any_bytes_are_dropped_and_counted() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    kept: list[bytes] = []
    cluster.filter = lambda source, target, message: kept.append(message) or True  # type: ignore[func-returns-value]
    cluster.put(b"x")
    cluster.filter = None
    rng = random.Random(1)
    dropped = leader.host.dropped
    for _ in range(3000):
        message = bytearray(rng.choice(kept))
        for _ in range(rng.randint(0, 4)):
            message[rng.randrange(len(message))] = rng.randrange(256)
        leader.host.receive(rng.choice([1, 2, 3, 9]), bytes(message[: rng.randint(0, len(message))]), cluster.now)
    assert leader.host.dropped > dropped
    cluster.put(b"y")
    cluster.settle()


def test_a_message_about_a_group_that_is_not_shared_is_dropped() -> None:
    cluster = Cluster(groups={1: [1, 2], 2: [2, 3]})
    cluster.run(2.0)
    host = cluster.nodes[2].host
    captured: list[bytes] = []

    def keep(source: int, target: int, message: bytes) -> bool:
        if (source, target) == (1, 2):
            captured.append(message)
        return True

    cluster.filter = keep
    cluster.put(b"x", group=1)
    bundle = decode(captured[-1])
    term = host.replicas[2].term + 10
    parts = [Append(2, term, 1, 0, 0, [(term, b"\0evil")]), Append(7, term, 1, 0, 0, []), Beat([(2, term, 99, 99)])]
    dropped = host.dropped
    host.receive(1, encode(msgspec.structs.replace(bundle, number=10**9, messages=parts)), cluster.now)
    assert host.dropped == dropped + 3
    assert host.replicas[2].term < term


def test_an_oversized_message_is_dropped_unread() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    dropped = leader.host.dropped
    leader.host.receive(1 if leader.number != 1 else 2, bytes(ReplicaConfig().message_bytes_max + 1), cluster.now)
    assert leader.host.dropped == dropped + 1


def test_negative_numbers_are_not_in_the_schema() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.msgpack.encode([1, 1, -1, []]))
    assert decode(encode(Bundle(1, 2, 3, []))) == Bundle(1, 2, 3, [])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("heartbeat_s", 0.0),
        ("election_min_s", 0.2),
        ("election_max_s", 0.7),
        ("broken_link_s", 0.8),
        ("inflight_bytes", 0),
        ("message_bytes_max", 1 << 20),
        ("apply_budget_s", 0.0),
    ],
)
def test_settings_that_cannot_work_are_named(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=setting):
        ReplicaConfig(**{setting: value}).validate()  # type: ignore[arg-type]


def trace() -> str:
    schedule = Schedule(7, groups={1: [1, 2, 3], 2: [2, 3, 4]})
    schedule.run(60)
    digest = hashlib.sha256(repr(sorted(schedule.cluster.leaders.items())).encode())
    for group, rows in schedule.cluster.history.items():
        digest.update(repr((group, sorted(rows.items()), schedule.cluster.turns)).encode())
    return digest.hexdigest()


def test_one_seed_is_one_run_whatever_the_hash_seed() -> None:
    expected = trace()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", "from tests.consensus.test_host import trace; print(trace())"]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=50)
        assert found.stdout.strip() == expected


def test_an_idle_group_costs_little() -> None:
    cluster = Cluster(3)
    cluster.elect()
    cluster.run(3.0)
    turns = cluster.turns
    cluster.run(10.0)
    assert cluster.turns - turns <= 10 * (20 + 10 + 10 + 20) * 1.5
