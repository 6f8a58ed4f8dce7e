"""What is no snapshot of a lock machine is refused, and the state stays."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.wire.frames import encode
from holdfast_shard.machine import LockMachine
from holdfast_shard.machine.locks import SNAPSHOT_VERSION
from tests.machine.driver import GENESIS, Client, Cluster

Chunk = list[object]


@pytest.fixture
def chunks(cluster: Cluster, one: Client) -> list[Chunk]:
    """A snapshot with a lock that is held and awaited, and a session, as its pieces."""
    lease = one.open(b"s" * 16)
    one.acquire("a", lease=lease)
    cluster.client().acquire("a", wait=5000)
    return [msgspec.msgpack.decode(chunk) for chunk in cluster.machine.export()]


def refused(chunks: list[bytes]) -> str:
    machine = LockMachine(GENESIS)
    before = (machine.digest, machine.rows_digest())
    with pytest.raises(ValueError, match="snapshot") as raised:
        machine.restore(chunks)
    assert (machine.digest, machine.rows_digest()) == before
    return str(raised.value)


def of_kind(chunks: list[Chunk], kind: int) -> Chunk:
    return next(chunk for chunk in chunks if chunk[0] == kind)


def head_of(chunks: list[Chunk]) -> Chunk:
    row = of_kind(chunks, 0)[2]
    assert isinstance(row, list)
    assert isinstance(row[0], list)
    return row[0]


def test_the_pieces_are_read_in_any_order(chunks: list[Chunk]) -> None:
    machines = []
    for order in (chunks, chunks[::-1]):
        machine = LockMachine(GENESIS)
        machine.restore([encode(chunk) for chunk in order])
        machines.append(machine)
    assert machines[0].rows_digest() == machines[1].rows_digest()
    assert machines[0].counts() == machines[1].counts()


def test_bytes_that_are_none_and_nesting_without_end() -> None:
    refused([])
    refused([b""])
    refused([b"\x93\x00\x00" + b"\x91" * 100_000])
    refused([b"\x93\x01\x00" + b"\x91" * 100_000])


@pytest.mark.parametrize("kind", [0, 1, 3])
def test_a_piece_that_others_need_is_missing(chunks: list[Chunk], kind: int) -> None:
    refused([encode(chunk) for chunk in chunks if chunk[0] != kind])


def test_rows_of_a_kind_that_is_not_known_are_not_dropped(chunks: list[Chunk]) -> None:
    assert "kind 99" in refused([*(encode(chunk) for chunk in chunks), encode([99, 0, ["rows"]])])


def test_another_version_is_named(chunks: list[Chunk]) -> None:
    head_of(chunks)[0] = SNAPSHOT_VERSION + 1
    assert f"version {SNAPSHOT_VERSION + 1}" in refused([encode(chunk) for chunk in chunks])


def test_slots_are_all_or_none(chunks: list[Chunk]) -> None:
    head_of(chunks)[-1] = b"\x01"
    assert "head" in refused([encode(chunk) for chunk in chunks])


@pytest.mark.parametrize("place", [{"token": 99}, {"seq": 99}, {"name": "b", "token": 1}])
def test_what_is_over_is_a_row_that_there_is(chunks: list[Chunk], place: dict[str, object]) -> None:
    globals_row = of_kind(chunks, 0)[2]
    lock_chunk = of_kind(chunks, 2)
    assert isinstance(globals_row, list)
    row = {"tenant": 1, "client": 1, "lease": 1, "slot": lock_chunk[1], "name": "a", "token": 0, "seq": 0, **place}
    globals_row[-1] = [list(row.values())]
    refused([encode(chunk) for chunk in chunks])
