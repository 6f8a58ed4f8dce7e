"""Where the fuzzer begins: the vectors of docs/wire.md, and one good example of every form besides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
from google.protobuf.duration_pb2 import Duration

from holdfast.v1 import admin_pb2 as apb
from holdfast.v1 import locks_pb2 as pb
from holdfast.wire import administration, changes, messages
from holdfast.wire.frames import Answers, Event, Kind, LockView, Options, Section, encode
from holdfast.wire.lockid import LockID
from holdfast_router.operations.opaque import SESSION, Cursor, SessionKey
from holdfast_shard.consensus import messages as peers
from holdfast_shard.consensus.journal import Journal
from holdfast_shard.consensus.records import GroupSummary, encode_checkpoint
from holdfast_shard.consensus.snapshots import SnapshotStore
from holdfast_shard.machine import LockMachine, MetaMachine, build_entry
from tests.fuzz.targets import META, in_pieces
from tests.fuzz.targets_of_fronts import SEALS
from tests.machine.driver import Cluster, Op, frame, section
from tests.simulation.disk import SimDisk
from tests.tenants import tenant_of

PAGE: Final = Path(__file__).parents[2] / "docs" / "wire.md"


def vectors() -> list[bytes]:
    """Every hex string of the page."""
    return [bytes.fromhex(found) for found in re.findall(r"`((?:[0-9a-f]{2}){8,})`", PAGE.read_text())]


def _machine() -> LockMachine:
    """One with a row of every kind."""
    cluster = Cluster()
    one, two = cluster.client(), cluster.client(2)
    lease = one.open(b"s" * 16, metadata=b"m")
    one.acquire("a", lease=lease, lock_delay_ms=100)
    one.permits("s", 1, 2)
    two.acquire("a", wait=5000)
    one.acquire("b", ttl=100)
    cluster.client().acquire("a", steal=True, wait=5000)
    cluster.pass_time(200)
    return cluster.machine


def _journal() -> bytes:
    disk = SimDisk()
    journal, _ = Journal.open(disk)
    journal.append_vote(1, 1, 2)
    for index in (1, 2, 3):
        journal.append_entry(1, index, 1, b"payload")
    journal.append_truncate(1, 3)
    journal.sync()
    journal.close()
    return disk.read(disk.names()[0])


def _snapshot() -> bytes:
    disk = SimDisk()
    writer = SnapshotStore(disk, 1).begin(1, 1)
    writer.write(b"chunk")
    writer.finish()
    return disk.read(disk.names()[0])


def seeds() -> dict[str, list[bytes]]:
    """By target; what a seed is good for is tried with every other target too by whoever mutates them."""
    register = Section(0, 0, bytes([Kind.REGISTER]), [0], [""], [0], [0], [0], [0], {})
    body = frame(1, section(1, 1, [Op(Kind.ACQUIRE, 1, "a", options=Options(mode=1))]))
    beat: list[peers.Message] = [peers.Append(1, 1, 0, 0, 0, [(1, b"x")]), peers.Beat([(1, 1, 0, 0)])]
    table = messages.SlotTable(1, b"\x01\x00")
    good = {
        "frame": [frame(1, register), body],
        "answers": [encode(Answers(b"\x05", [0], [0], {0: [2, "why"]}))],
        "events": [encode([Event(1, 1, 3, 2, 2, "a", 9, 0, 1, 3, "deploy")])],
        "hello": [encode(messages.Hello(1, "client", "hf_x"))],
        "welcome": [encode(messages.Welcome(1, "cluster", 1))],
        "refusal": [encode(messages.Refusal(7, "moved"))],
        "request": [encode(messages.Request(5000, msgspec.Raw(encode(register))))],
        "frame_request": [encode(messages.FrameRequest(patience, msgspec.Raw(body))) for patience in ([], [1], [5000])],
        "table": [encode(table)],
        "roles": [encode([messages.GroupRole(1, 2, 3, True)])],
        "meta": [encode(META)],
        "delta": [encode(messages.MetaDelta(1, 2, (tenant_of(2),), (3,)))],
        "beat": [encode(messages.Beat(1, 2))],
        "watch": [encode(messages.WatchRequest("a/", True))],
        "watched": [encode(messages.Watched(True, [LockView("a", 0, 0, [])]))],
        "audit_filter": [encode(changes.AuditFilter("shop", 2, "key", "orders/7", "abcdefghijkl", 1, 2))],
        "change": [encode(changes.Change(bytes(16), "key", "address", 1, changes.RevokeKey("key")))],
        "admin_call": [
            encode(administration.AdminCall(bytes(16), asked))
            for asked in (administration.CreateTenant("shop", quotas={"rate": 1}), administration.ListAudit(7))
        ],
        "admin_result": [encode(administration.Done("shop")), encode(administration.TenantPage([], ""))],
        "http_request": [
            b'{"name": "a", "ttl_ms": 100, "steal": true}',
            b'{"operations": [{"op": "get", "name": "a"}]}',
            b'{"type": "tenant.create", "id": "shop", "quotas": {"rate": 1}}',
            b"%C3%A9/7",
        ],
        "grpc_request": [
            pb.AcquireRequest(name="a", ttl=Duration(seconds=1), steal=True).SerializeToString(),
            apb.CreateTenantRequest(id="a", quotas=apb.Quotas(rate=1, ttl=Duration(seconds=1))).SerializeToString(),
        ],
        "opaque": [
            encode(SessionKey(bytes(16), 1000)),
            encode(Cursor("locks", "a/", 1, "")),
            SEALS.seal(1, SESSION, SessionKey(bytes(16), 1000)).encode(),
        ],
        "lock_id": [LockID(1, "orders/7", 42).text(b"key").encode(), encode(LockID(1, "orders/7", 42))],
        "entry": [build_entry(1, 5, [body, b""])],
        "machine": [frame(1, register), body, build_entry(1, 5, [body])],
        "snapshot_rows": [in_pieces(list(_machine().export()))],
        "meta_rows": [in_pieces(list(MetaMachine(META).export()))],
        "snapshot_file": [_snapshot(), _snapshot()[:-4]],
        "peer_bundle": [peers.encode(peers.Bundle(1, 0, 1, beat))],
        "checkpoint": [encode_checkpoint([GroupSummary(1, 1, None, 0, 3)])],
        "journal": [_journal(), in_pieces([b"", b"\x03\x01\x02\x01", b"\x01\x01\x01\x01payload", b"\x02\x01\x01\x01"])],
    }
    for vector in vectors():
        for name in ("section", "answers", "events", "stream"):
            good.setdefault(name, []).append(vector)
    return good
