"""An observer hears of every lock that looks different, and nothing of the state depends on it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.wire.frames import Kind, LockView, Mode, Options, Status
from holdfast.wire.names import slot_of
from holdfast_shard.machine import Lock, LockMachine, ReadBudget
from tests.machine.driver import GENESIS, Client, Cluster

NAMES = ("a", "b", "{tag}c")


class Notes:
    def __init__(self) -> None:
        self.names: set[str] = set()

    def touched(self, lock: Lock) -> None:
        self.names.add(lock.name)


def look(machine: LockMachine, name: str) -> tuple[Any, ...]:
    """A name without what runs by itself."""
    view: LockView = machine.view(1, slot_of(1, name), name, ReadBudget())
    holders = [
        (row.token, row.mode, row.permits, row.session, row.metadata, row.why, row.leaving, row.count)
        for row in view.holders
    ]
    return (view.capacity, view.waiters, view.closed_ms > 0, view.held, holders)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "acquire",
                "wait",
                "shared",
                "permits",
                "session",
                "again",
                "steal",
                "steal now",
                "delayed",
                "release",
                "cancel",
                "force",
                "end",
                "end another's",
                "keepalive",
                "hand over",
                "time",
            ]
        ),
        st.integers(0, 2),
        st.sampled_from(NAMES),
        st.integers(0, 20_000),
    ),
    max_size=40,
)


def step(clients: list[Client], what: str, who: int, name: str, number: int, tokens: list[int]) -> None:
    client = clients[who]
    token = tokens[number % len(tokens)] if tokens else 1
    ttl = 1000 + number
    match what:
        case "time":
            client.cluster.pass_time(number)
            return
        case "release":
            client.op(Kind.RELEASE, name, token=token)
            return
        case "hand over":
            client.op(Kind.RENEW, name, token=token, options=Options(session=bytes([1 + number % 3]) * 16))
            return
        case "cancel":
            client.op(Kind.CANCEL, name, token=1 + number % max(client.seq, 1))
            return
        case "force":
            client.op(Kind.FORCE, name, options=Options(now=number % 2 == 0))
            return
        case "end":
            client.op(Kind.END, lease=1)
            return
        case "end another's":
            client.op(Kind.END, options=Options(session=bytes([1 + number % 3]) * 16, now=number % 2 == 0))
            return
        case "keepalive":
            client.op(Kind.KEEPALIVE, name, lease=1, ttl=ttl)
            return
    options = {
        "shared": Options(mode=int(Mode.SHARED), metadata=b"m"),
        "permits": Options(mode=int(Mode.PERMITS), permits=1 + number % 2, capacity=3),
        "again": Options(reentrant=True),
        "steal": Options(steal=True),
        "steal now": Options(steal=True, now=True),
        "delayed": Options(lock_delay_ms=2000),
    }.get(what)
    lease = 1 if what in ("session", "again") else 0
    wait = 0 if what == "acquire" else 5000
    answer = client.op(Kind.ACQUIRE, name, lease=lease, ttl=ttl, wait=wait, options=options)
    if answer.status == Status.OK:
        tokens.append(answer.token)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_change_is_told_and_the_observed_replica_stays_equal(steps: list[tuple[str, int, str, int]]) -> None:
    cluster, notes = Cluster(), Notes()
    machine = cluster.machine
    machine.observe(notes)
    clients = [cluster.client() for _ in range(3)]
    for number, client in enumerate(clients, start=1):
        client.op(Kind.OPEN, lease=1, ttl=8000, options=Options(session=bytes([number]) * 16))
    tokens: list[int] = []
    for what, who, name, number in steps:
        before = {known: look(machine, known) for known in NAMES}
        notes.names.clear()
        step(clients, what, who, name, number, tokens)
        while machine.backlog:
            cluster.entry()
        changed = {known for known in NAMES if look(machine, known) != before[known]}
        assert changed <= notes.names
    unobserved = LockMachine(GENESIS)
    for index, term, payload in cluster.log:
        unobserved.apply(index, term, payload)
    assert (unobserved.digest, unobserved.rows_digest()) == (machine.digest, machine.rows_digest())


def test_an_observer_stays_through_a_restore_and_a_look_leaves_no_row() -> None:
    cluster, notes = Cluster(), Notes()
    other = LockMachine(GENESIS)
    other.observe(notes)
    client = cluster.client()
    client.op(Kind.ACQUIRE, "a")
    other.restore(list(cluster.machine.export()))
    moved = Cluster(other, term=cluster.term + 1)
    Client(moved, 1, moved.client().number).op(Kind.ACQUIRE, "b")
    assert notes.names == {"b"}
    digest = other.rows_digest()
    assert other.view(7, 0, "nobody's", ReadBudget()) == LockView("nobody's", 0, 0, [])
    assert other.rows_digest() == digest
    other.observe(None)
    moved.client().op(Kind.ACQUIRE, "c")
    assert notes.names == {"b"}
