"""Same entries, same bytes: on every replica, under any hash seed, through any snapshot; and no bytes make it raise."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.wire import limits
from holdfast.wire.frames import Kind, Options
from holdfast_shard.machine import LockMachine, build_entry
from holdfast_shard.machine.export import CHUNK_BYTES
from tests.machine import invariants
from tests.machine.driver import GENESIS, Client, Cluster, Op, frame, section

NAMES = [f"n{n}" for n in range(6)] + ["{tag}x", "{tag}y"]


def random_options(rng: random.Random) -> Options | None:
    if rng.random() < 0.4:
        return None
    return Options(
        mode=rng.choice([0, 0, 1, 1, 2, 3]),
        permits=rng.randint(0, 3),
        capacity=rng.choice([3, 3, 3, 4]),
        metadata=b"m" * rng.choice([0, 5, 1024, 1025]),
        lock_delay_ms=rng.choice([0, 0, 0, 700]),
        reentrant=rng.random() < 0.3,
        steal=rng.random() < 0.15,
        now=rng.random() < 0.3,
        reason="because",
        session=rng.choice([b"s" * 16, b"t" * 16, b""]),
    )


def random_trace(seed: int, length: int = 250) -> list[tuple[int, int, bytes | None]]:
    """A log of plausible and implausible operations."""
    rng = random.Random(seed)
    cluster = Cluster()
    clients = [cluster.client(rng.choice([1, 1, 2])) for _ in range(4)]
    tokens, leases, floors = [0], {client: [0, 0] for client in clients}, dict.fromkeys(clients, 1)
    for _ in range(length):
        if rng.random() < 0.05:
            cluster.elect()
        cluster.elapsed += rng.choice([0, 0, 1, 10, 100, 700])
        client = rng.choice(clients)
        ops = []
        for _ in range(rng.randint(0, 6)):
            client.seq += 1
            kind = rng.choice(
                [Kind.ACQUIRE] * 5
                + [Kind.RELEASE] * 3
                + [Kind.KEEPALIVE] * 2
                + [Kind.CANCEL, Kind.OPEN, Kind.END, Kind.FORCE]
            )
            seq = client.seq if rng.random() < 0.9 else rng.randint(1, client.seq)
            token = rng.choice(tokens) if kind != Kind.CANCEL else max(1, seq - rng.randint(0, 4))
            ops.append(
                Op(
                    kind,
                    seq,
                    rng.choice(NAMES),
                    rng.choice(leases[client]),
                    token,
                    rng.choice([100, 300, 1000, 5000]),
                    rng.choice([0, 200, 3000]),
                    random_options(rng),
                )
            )
            if kind == Kind.OPEN:
                leases[client].append(seq)
        if rng.random() < 0.3:
            floors[client] = max(floors[client], client.seq - rng.randint(0, 12))
        answers = client.run(ops, floor=floors[client])
        tokens += [answer.token for answer in answers if answer.token]
        tokens = tokens[-12:]
    return cluster.log


def apply_all(machine: LockMachine, log: list[tuple[int, int, bytes | None]]) -> LockMachine:
    for index, term, payload in log:
        machine.apply(index, term, payload)
    return machine


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.floats(0, 1), pace=st.integers(0, 4000))
@example(seed=0, cut=0.25, pace=0)  # a plain lease freed before its client's piece was written came back twice
def test_a_snapshot_at_any_point_written_while_apply_goes_on_changes_nothing(seed: int, cut: float, pace: int) -> None:
    log = random_trace(seed)
    at = int(cut * len(log))
    machine = apply_all(LockMachine(GENESIS), log[:at])
    at_cut, rows_at_cut = machine.digest, machine.rows_digest()
    export = machine.export()
    chunks = [next(export)]
    for index, term, payload in log[at:]:
        machine.apply(index, term, payload)
        for _ in range(pace // 1000):
            chunks += [chunk for chunk in [next(export, None)] if chunk is not None]
    chunks += export
    restored = LockMachine(GENESIS)
    restored.restore(chunks)
    assert (restored.digest, restored.rows_digest()) == (at_cut, rows_at_cut)
    apply_all(restored, log[at:])
    assert restored.digest == machine.digest
    assert restored.rows_digest() == machine.rows_digest()
    assert restored.counts() == machine.counts()


@pytest.mark.parametrize("freed_max", [1, 2, 3, 1000])
def test_rows_counts_and_queues_are_true_after_every_entry(freed_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREED_PER_ENTRY_MAX", freed_max)
    for seed in range(8):
        machine = LockMachine(GENESIS)
        for index, term, payload in random_trace(seed * 4 + freed_max):
            machine.apply(index, term, payload)
            invariants.check(machine)
        restored = LockMachine(GENESIS)
        restored.restore(list(machine.export()))
        assert restored.counts() == machine.counts()
        assert run_out(machine) == run_out(restored)


def run_out(machine: LockMachine) -> bytes:
    """Hours pass; nothing is left but idle clients."""
    term = machine.term + 1
    machine.apply(machine.applied_index + 1, term, None)
    for elapsed_ms in (100_000, 200_000):
        machine.apply(machine.applied_index + 1, term, build_entry(term, elapsed_ms, []))
        while machine.backlog:
            machine.apply(machine.applied_index + 1, term, build_entry(term, elapsed_ms, []))
            invariants.check(machine)
    counts = machine.counts()
    assert (counts["held"], counts["waiters"], counts["sessions"]) == (0, 0, 0)
    assert not any(machine._ledger.tables)
    return machine.digest


def test_one_log_under_two_hash_seeds_gives_the_same_bytes() -> None:
    code = (
        "from tests.machine.test_replicas import *\n"
        "m = apply_all(LockMachine(GENESIS), random_trace(7))\n"
        "print(m.digest.hex(), m.rows_digest().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            capture_output=True, text=True, check=True, timeout=50,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_random_reads_are_answered() -> None:
    rng = random.Random(1)
    machine = apply_all(LockMachine(GENESIS), random_trace(3))
    kinds = [Kind.GET, Kind.CHECK, Kind.LIST, Kind.HOLDS, Kind.TICKETS, Kind.SESSIONS, 3, 200]
    numbers = [-(2**63), -1, 0, 1, 2, 3, 50, 2**64 - 1]
    for _ in range(3000):
        options = Options(cursor=rng.choice(["", "0:", "9" * 5000, "aa", "1:n1"]), limit=rng.choice(numbers[:-1]))
        op = Op(
            rng.choice(kinds), 0, rng.choice([*NAMES, "", "x" * 600]), rng.choice(numbers), rng.choice(numbers),
            options=options,
        )  # fmt: skip
        machine.read(frame(rng.choice([0, 1, 2, -1]), section(rng.choice(numbers), 0, [op])))


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(max_size=200), framed=st.booleans())
def test_no_bytes_make_apply_or_read_raise(payload: bytes, framed: bool) -> None:
    machine = LockMachine(GENESIS)
    machine.apply(1, 1, build_entry(1, 5, [payload]) if framed else payload)
    machine.read(payload)


def test_an_entry_is_applied_once() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.acquire("a")
    machine, before = cluster.machine, cluster.machine.digest
    for index, term, payload in cluster.log:
        assert machine.apply(index, term, payload).refused
    assert machine.digest == before


@pytest.mark.parametrize("freed", [0, 1, 2, 3])
def test_a_snapshot_names_everything_that_is_over_and_not_yet_freed(
    freed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stolen hold, a waiter, a plain lease and a session with two waiters, all over by one reading."""
    cluster = Cluster()
    one, two = cluster.client(), cluster.client()
    lease = one.open(b"s" * 16, ttl=500)
    for name in "abc":
        two.acquire(name, ttl=60_000)
    for name in "ab":
        one.acquire(name, lease=lease, wait=60_000)
    one.acquire("c", ttl=60_000, wait=500)
    robbed = one.open(b"t" * 16, ttl=400)
    one.acquire("d", lease=robbed)
    two.op(Kind.FORCE, "d")
    cluster.elapsed += 200
    one.keepalive(robbed, ttl=60_000)
    one.acquire("e", ttl=200)
    monkeypatch.setattr(limits, "FREED_PER_ENTRY_MAX", freed)
    cluster.elapsed += 300
    cluster.entry()
    invariants.check(cluster.machine)
    restored = LockMachine(GENESIS)
    restored.restore(cluster.machine.export())
    assert restored.counts() == cluster.machine.counts()
    assert restored.rows_digest() == cluster.machine.rows_digest()
    monkeypatch.setattr(limits, "FREED_PER_ENTRY_MAX", 2)
    assert run_out(restored) == run_out(cluster.machine)


def test_a_snapshot_that_was_given_up_does_not_end_the_next_one() -> None:
    """What is left of the first goes when it likes; the second still shows one moment."""
    cluster = Cluster()
    client = cluster.client()
    client.acquire("a", ttl=60_000)
    first = cluster.machine.export()
    next(first)
    second = cluster.machine.export()
    chunks, rows = [next(second)], cluster.machine.rows_digest()
    del first
    gc.collect()
    client.acquire("b", ttl=60_000)
    restored = LockMachine(GENESIS)
    restored.restore([*chunks, *second])
    assert restored.rows_digest() == rows


def test_columns_of_different_length_and_foreign_kinds_change_nothing() -> None:
    cluster = Cluster()
    client = cluster.client()
    bad = section(client.number, 1, [Op(Kind.ACQUIRE, 1, "a")])
    bad.tokens = []
    cluster.entry(frame(1, bad))
    for kind in (0, Kind.REGISTER, Kind.ALLOT, Kind.ANNOUNCE, Kind.GET, 255):
        client.run([Op(kind, 99, "a")])
    assert cluster.machine.counts()["held"] == 0


def test_an_entry_of_another_term_than_its_stamp_changes_nothing_not_even_the_clock() -> None:
    cluster = Cluster()
    client = cluster.client()
    body = frame(1, section(client.number, 1, [Op(Kind.ACQUIRE, 1, "a")]))
    cluster.elect()
    result = cluster.append(build_entry(cluster.term - 1, 9000, [body]))
    assert result.refused
    assert result.answers == []
    assert (cluster.machine.clock_ms, cluster.machine.counts()["held"]) == (0, 0)


def test_what_is_over_and_not_freed_yet_is_freed_after_a_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREED_PER_ENTRY_MAX", 1)
    cluster = Cluster()
    client = cluster.client()
    for n in range(5):
        client.acquire(f"name{n}", ttl=1000)
    cluster.elapsed = 1000
    cluster.entry()
    assert cluster.machine.backlog
    machine = LockMachine(GENESIS)
    machine.restore(cluster.machine.export())
    restored = Cluster(machine, term=cluster.term + 1)
    cluster.elect()
    cluster.take_events()
    restored.pass_time(0)
    cluster.pass_time(0)
    assert restored.take_events() == cluster.take_events() != []
    assert restored.machine.rows_digest() == cluster.machine.rows_digest()


def test_replicas_that_differ_have_different_digests() -> None:
    one, other = Cluster(), Cluster()
    assert one.machine.digest == other.machine.digest
    client = one.client()
    other.client()
    assert one.machine.digest == other.machine.digest
    one.entry(frame(1, section(client.number, 1, [Op(Kind.ACQUIRE, 1, "a")])))
    other.entry(frame(1, section(client.number, 1, [Op(Kind.ACQUIRE, 1, "b")])))
    assert one.machine.digest != other.machine.digest


def test_the_same_entry_with_another_answer_gives_another_digest() -> None:
    one, other = Cluster(), Cluster()
    client = one.client()
    other.client()
    other.machine.restore(one.machine.export())
    # As after a fault of memory: what was granted there is not known here.
    other.machine._ledger.tenant(1).last_token += 1
    body = frame(1, section(client.number, 1, [Op(Kind.ACQUIRE, 1, "a")]))
    one.entry(body)
    other.entry(body)
    assert one.machine.digest_index == other.machine.digest_index
    assert one.machine.digest != other.machine.digest


def test_the_clock_goes_on_from_where_the_new_term_found_it() -> None:
    cluster = Cluster()
    cluster.pass_time(5000)
    cluster.elect()
    assert cluster.machine.clock_ms == 5000
    cluster.pass_time(700)
    assert cluster.machine.clock_ms == 5700
    cluster.elapsed = 100
    cluster.entry()
    assert cluster.machine.clock_ms == 5700


def test_a_slot_and_a_client_of_any_size_are_written_in_chunks_of_bounded_size() -> None:
    """All names of one tag share a slot; sixty megabytes of it once were one chunk, and a megabyte more was none."""
    cluster = Cluster()
    client = cluster.client()
    fat = Options(metadata=b"m" * 1024)
    for at in range(0, 6000, 1000):
        ops = [Op(Kind.ACQUIRE, at + n + 1, f"{{tag}}/{at + n}", ttl=600_000, options=fat) for n in range(1000)]
        client.run(ops, floor=at + 1)
    other = cluster.client()
    for n in range(3000):
        other.open(n.to_bytes(16, "big"), metadata=b"m" * 1024)
    chunks = list(cluster.machine.export())
    assert max(map(len, chunks)) < CHUNK_BYTES + (64 << 10)
    restored = LockMachine(GENESIS)
    restored.restore(chunks)
    assert restored.rows_digest() == cluster.machine.rows_digest()
    assert restored.counts() == cluster.machine.counts()


def test_ten_thousand_leases_that_end_together_are_bounded_entries_and_nobody_else_waits() -> None:
    cluster = Cluster()
    client = cluster.client()
    for batch in range(10):
        client.run(
            [Op(Kind.ACQUIRE, batch * 1000 + n + 1, f"b{batch}/{n}", ttl=1000) for n in range(1000)],
            floor=batch * 1000 + 1,
        )
    client.seq = 10_000
    other = cluster.client()
    cluster.elapsed += 1000
    result = cluster.entry()
    assert len(result.events) <= 1000
    assert cluster.machine.backlog
    assert other.acquire("b9/999").status == 0
    for _ in range(11):
        cluster.entry()
    assert len(cluster.machine._ledger.dying) == 0
    assert cluster.machine.counts()["held"] == 1


def test_waiters_of_many_names_that_time_out_together_are_bounded_entries() -> None:
    cluster = Cluster()
    holder, waiter = cluster.client(), cluster.client()
    names = [f"n{n}" for n in range(10)]
    holder.run([Op(Kind.ACQUIRE, n + 1, name, ttl=600_000) for n, name in enumerate(names)])
    for at in range(0, 5000, 1000):
        ops = [Op(Kind.ACQUIRE, at + n + 1, names[n % 10], ttl=600_000, wait=10_000) for n in range(1000)]
        waiter.run(ops, floor=at + 1)
    assert cluster.machine.counts()["waiters"] == 5000
    cluster.elapsed += 20_000
    ended = []
    for _ in range(6):
        ended.append(len(cluster.entry().events))
        assert cluster.machine.counts()["waiters"] == 0
        invariants.check(cluster.machine)
    assert ended == [1000] * 5 + [0]


def test_a_machine_forgets_what_was_released() -> None:
    cluster = Cluster()
    client = cluster.client()
    for n in range(2000):
        held = client.acquire(f"name/{n}", ttl=30_000)
        client.release(f"name/{n}", held.token)
    ledger = cluster.machine._ledger
    assert not any(ledger.tables)
    assert not client_leases(client)
    assert sum(len(bucket) for bucket in ledger.timers._buckets.values()) <= 1


def client_leases(client: Client) -> dict[int, object]:
    found = client.cluster.machine._ledger.client(client.tenant, client.number)
    assert found is not None
    return dict(found.leases)
