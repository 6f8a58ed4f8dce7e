"""The meta machine: nodes announce where they listen, and a snapshot of it is all of it."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.wire.frames import Kind, Status, decode_answer_list, encode
from holdfast.wire.messages import MetaRecord, NodeRecord, SlotTable
from holdfast_shard.machine import LockMachine, MetaMachine, build_entry
from tests.machine.driver import GENESIS, Op, frame, section

RECORD = MetaRecord(1, "cluster", (NodeRecord(1, "a:1", "one"), NodeRecord(2, "b:2", "two")), (), SlotTable(1, b""), ())


class Meta:
    def __init__(self) -> None:
        self.machine = MetaMachine(RECORD)
        self.machine.apply(1, 1, None)

    def run(self, ops: list[Op], tenant: int = 0) -> list[int]:
        payload = build_entry(1, 10, [frame(tenant, section(0, 0, ops))])
        result = self.machine.apply(self.machine.applied_index + 1, 1, payload)
        return list(decode_answer_list(result.answers[0])[0].statuses)

    def announce(self, node: int, address: str) -> int:
        return self.run([Op(Kind.ANNOUNCE, name=address, token=node)])[0]


def test_a_node_says_where_it_listens_and_saying_it_again_changes_nothing() -> None:
    meta = Meta()
    assert meta.announce(2, "c:3") == Status.OK
    assert meta.announce(2, "c:3") == Status.OK
    assert meta.machine.record.version == 2
    assert [node.address for node in meta.machine.record.nodes] == ["a:1", "c:3"]
    assert [node.identity for node in meta.machine.record.nodes] == ["one", "two"]


@pytest.mark.parametrize("address", ["", "c", ":3", "c:", "c:x", "c" * 256 + ":1"])
def test_an_address_that_is_none_changes_nothing(address: str) -> None:
    meta = Meta()
    assert meta.announce(1, address) == Status.INVALID
    assert meta.machine.record == RECORD


def test_only_the_service_announces_only_nodes_that_there_are_and_nothing_else_is_asked() -> None:
    meta = Meta()
    good = Op(Kind.ANNOUNCE, name="c:3", token=1)
    assert meta.announce(3, "c:3") == Status.INVALID
    assert meta.run([good, Op(Kind.ACQUIRE, 1, "a")], tenant=1) == [Status.INVALID] * 2
    assert meta.run([Op(Kind.ACQUIRE, 1, "a")]) == [Status.INVALID]
    read = meta.machine.read(frame(0, section(0, 0, [Op(Kind.GET, 0, "a")])))
    assert list(decode_answer_list(read)[0].statuses) == [Status.INVALID]
    assert meta.machine.record == RECORD


def test_it_knows_no_clients_and_waits_for_nothing() -> None:
    machine = Meta().machine
    assert not machine.knows(1, 1)
    assert machine.due_ms() is None
    assert not machine.backlog
    assert set(machine.counts().values()) == {0}


def test_a_snapshot_goes_on_in_lock_step() -> None:
    meta, other = Meta(), Meta()
    meta.announce(1, "c:3")
    other.machine.restore(list(meta.machine.export()))
    assert other.machine.rows_digest() == meta.machine.rows_digest()
    for one in (meta, other):
        one.announce(2, "d:4")
    assert other.machine.digest == meta.machine.digest
    assert other.machine.record == meta.machine.record


def test_what_is_no_snapshot_leaves_the_state() -> None:
    meta = Meta()
    good = list(meta.machine.export())
    head = msgspec.msgpack.decode(good[0])
    bad = [
        [],
        good[:1],
        [*good, b""],
        good[:2],
        [good[1], good[0], *good[2:]],
        [encode([1, *head[1:]]), *good[1:]],
        [encode([head[0], "index", *head[2:]]), *good[1:]],
        [good[0], b"\x91" * 100_000, *good[2:]],
        [b"\x98" + good[0][1:] + b"\x91" * 100_000, *good[1:]],
    ]
    for chunks in bad:
        before = meta.machine.digest
        with pytest.raises(ValueError, match="snapshot"):
            meta.machine.restore(chunks)
        assert (meta.machine.digest, meta.machine.record) == (before, RECORD)


def test_a_snapshot_of_the_one_machine_is_none_of_the_other() -> None:
    meta, locks = MetaMachine(RECORD), LockMachine(GENESIS)
    with pytest.raises(ValueError, match="snapshot"):
        meta.restore(locks.export())
    with pytest.raises(ValueError, match="snapshot"):
        locks.restore(meta.export())
