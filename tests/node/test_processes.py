"""Real node processes: they keep what they acknowledged, and say why when they cannot serve."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind, Status, encode
from holdfast.wire.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX, LINK_LOOK_S, LINK_SILENT_LOOKS, PROTOCOL_VERSION
from holdfast.wire.messages import Hello, MetaRecord, Msg, Role, decode_delta, decode_meta, decode_refusal
from holdfast.wire.stream import pack
from holdfast_shard.consensus.records import MARK
from holdfast_shard.formation import BEGUN_FILE, FRESH_FILE
from tests.machine.driver import Op, frame, section
from tests.node.processes import Caller, NodeProcess, Refused, free_addresses, operate, run, until_leads

REGISTER = frame(1, section(0, 0, [Op(Kind.REGISTER)]))


class Cluster:
    def __init__(self, root: Path, nodes: int = 3, replicas: int | None = None) -> None:
        self.root = root
        self.addresses = free_addresses(nodes)
        shape = ["--groups", "1", "--replicas", str(replicas or nodes)]
        formed = run("form", "--nodes", ",".join(self.addresses), *shape, "--out", str(root))
        assert formed.returncode == 0, formed.stderr
        self.formation: dict[str, Any] = json.loads((root / "formation.json").read_text())
        self.nodes = {number: NodeProcess(root / f"node-{number}") for number in range(1, nodes + 1)}

    async def leader(self) -> Caller:
        return await until_leads(self.formation, self.addresses)

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()


@pytest.fixture(autouse=True)
async def no_connection_is_left() -> AsyncIterator[None]:
    yield
    await Caller.close_all()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    cluster.stop()


async def test_an_acknowledged_grant_survives_leader_and_cluster_and_a_retry_gets_the_same_answer(
    cluster: Cluster,
) -> None:
    caller = await cluster.leader()
    client = (await operate(caller, REGISTER)).tokens[0]
    acquire = frame(1, section(client, 1, [Op(Kind.ACQUIRE, 1, "a", ttl=60_000)]))
    first = await operate(caller, acquire)
    assert first.statuses == bytes([Status.OK])
    status = await caller.ask(Msg.STATUS, 0, b"")
    cluster.nodes[status["node"]].stop(signal.SIGKILL)
    caller = await cluster.leader()
    assert await operate(caller, acquire) == first
    for node in cluster.nodes.values():
        node.stop(signal.SIGKILL)
    cluster.nodes = {number: NodeProcess(cluster.root / f"node-{number}") for number in cluster.nodes}
    caller = await cluster.leader()
    assert await operate(caller, acquire) == first
    other = (await operate(caller, REGISTER)).tokens[0]
    busy = await operate(caller, frame(1, section(other, 1, [Op(Kind.ACQUIRE, 1, "a")])))
    assert busy.statuses == bytes([Status.BUSY])


async def test_a_lost_disk_is_replaced_and_the_replacement_catches_up(cluster: Cluster) -> None:
    caller = await cluster.leader()
    client = (await operate(caller, REGISTER)).tokens[0]
    acquire = frame(1, section(client, 1, [Op(Kind.ACQUIRE, 1, "a", ttl=600_000)]))
    first = await operate(caller, acquire)
    cluster.stop()
    survivors = [str(cluster.root / f"node-{number}") for number in (1, 3)]
    replaced = run("replace", "--node", "2", "--data", *survivors, "--out", str(cluster.root / "node-2-new"))
    assert replaced.returncode == 0, replaced.stderr
    cluster.formation = json.loads((cluster.root / "node-1" / "formation.json").read_text())
    cluster.nodes = {
        number: NodeProcess(cluster.root / name) for number, name in {1: "node-1", 2: "node-2-new", 3: "node-3"}.items()
    }
    caller = await cluster.leader()
    assert await operate(caller, acquire) == first
    fresh = cluster.root / "node-2-new" / FRESH_FILE
    digests: set[str] = set()
    while fresh.exists() or len(digests) != 1:
        digests = set()
        for address in cluster.addresses:
            other = Caller()
            await other.dial(address)
            await other.hello(cluster.formation)
            status = await other.ask(Msg.STATUS, 0, b"")
            digests |= {f"{row['digest_index']} {row['digest']}" for row in status["groups"] if row["group"] == 1}
            other.connection.close()
    (cluster.root / "node-2" / "formation.json").write_bytes((cluster.root / "node-1" / "formation.json").read_bytes())
    old = run("node", "--data", str(cluster.root / "node-2"))
    assert (old.returncode, "was replaced" in old.stderr) == (3, True)


async def test_bad_callers_are_refused_with_the_reason_and_do_no_harm(cluster: Cluster) -> None:
    leader = await cluster.leader()
    node = cluster.addresses[0]
    wrong: list[tuple[dict[str, Any], Code]] = [
        ({"version": 99}, Code.VERSION),
        ({"cluster": "other"}, Code.WRONG_CLUSTER),
        ({"key": "wrong"}, Code.UNAUTHENTICATED),
        ({"role": "client"}, Code.UNAUTHENTICATED),
        ({"role": "node", "node": 2, "identity": "stranger"}, Code.WRONG_CLUSTER),
    ]
    for fields, code in wrong:
        caller = Caller()
        await caller.dial(node)
        assert await caller.refused(cluster.formation, **fields) == code
        await caller.closed.wait()
    refused_early = [
        (b"GET / HTTP/1.1\r\n\r\n", Code.TOO_LARGE),
        (bytes(100), Code.BAD_MESSAGE),
        (pack(Msg.HELLO, 0, 0, bytes(HELLO_BYTES_MAX + 1)), Code.TOO_LARGE),
        (pack(Msg.HELLO, 0, 0, bytes(HELLO_BYTES_MAX)), Code.BAD_MESSAGE),
        (pack(Msg.PING, 0, 0, b"") * 1000, Code.BAD_MESSAGE),
    ]
    for garbage, code in refused_early:
        caller = Caller()
        await caller.dial(node)
        assert caller.connection.transport is not None
        caller.connection.transport.write(garbage)
        kind, _, request, body = await caller.next()
        assert (kind, request, decode_refusal(body).code) == (Msg.REFUSED, 0, code)
        await caller.closed.wait()
        assert caller.messages.empty()
    caller = Caller()
    await caller.dial(node)
    assert caller.connection.transport is not None
    caller.connection.transport.write(os.urandom(500))
    await caller.closed.wait()
    twice = Caller()
    await twice.dial(node)
    assert (await twice.hello(cluster.formation))[0] == Msg.WELCOME
    wanted = {"role": "node", "node": 2, "identity": cluster.formation["nodes"][1][2]}
    kind, body = await twice.hello(cluster.formation, **wanted)
    while kind != Msg.REFUSED:
        kind, _, _, body = await twice.next()
    assert decode_refusal(body).code == Code.BAD_MESSAGE
    await twice.closed.wait()
    early = Caller()
    await early.dial(node)
    early.connection.send(Msg.OPS, 1, 1, REGISTER)
    kind, _, _, body = await early.next()
    assert (kind, decode_refusal(body).code) == (Msg.REFUSED, Code.BAD_MESSAGE)
    assert (await operate(leader, REGISTER)).statuses == bytes([Status.OK])


async def test_a_router_or_peer_that_falls_silent_is_forgotten_and_one_that_answers_is_kept(cluster: Cluster) -> None:
    answering = Caller()
    await answering.dial(cluster.addresses[0])
    await answering.hello(cluster.formation)
    host, _, port = cluster.addresses[0].rpartition(":")
    me = cluster.formation["nodes"][2]

    async def seconds_until_closed(hello: Hello) -> float:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(pack(Msg.HELLO, 0, 0, encode(hello)))
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(15):
                while await reader.read(1 << 16):
                    pass
        except ConnectionError:
            pass  # what it was told and did not take makes the end a reset
        writer.close()
        return asyncio.get_running_loop().time() - began

    secret, number = cluster.formation["secret"], cluster.formation["cluster"]
    cluster.nodes.pop(3).stop()
    took = await asyncio.gather(
        seconds_until_closed(Hello(PROTOCOL_VERSION, Role.ROUTER, secret, number)),
        seconds_until_closed(Hello(PROTOCOL_VERSION, Role.NODE, secret, number, me[0], me[2])),
    )
    assert min(took) > LINK_LOOK_S * LINK_SILENT_LOOKS - 0.1
    assert not answering.closed.is_set()


async def test_bad_frames_are_refused_and_the_connection_is_kept(cluster: Cluster) -> None:
    caller = await cluster.leader()
    for body, code in [
        (b"\xc1", Code.BAD_MESSAGE),
        (encode({"a": 1}), Code.BAD_MESSAGE),
        (encode(bytes(FRAME_BYTES_MAX)), Code.TOO_LARGE),
    ]:
        with pytest.raises(Refused) as caught:
            await operate(caller, body)
        assert caught.value.refusal.code == code
    with pytest.raises(Refused) as caught:
        await operate(caller, REGISTER, group=99)
    assert caught.value.refusal.code == Code.NO_SUCH_GROUP
    assert (await operate(caller, REGISTER)).statuses == bytes([Status.OK])


def test_a_node_says_why_it_cannot_start(cluster: Cluster, tmp_path: Path) -> None:
    directory = cluster.root / "node-1"
    in_use = run("node", "--data", str(directory))
    assert (in_use.returncode, "in use" in in_use.stderr) == (3, True)
    missing = run("node", "--data", str(tmp_path / "nothing"))
    assert (missing.returncode, "form a cluster first" in missing.stderr) == (3, True)
    other = run(
        "form", "--nodes", cluster.addresses[0], "--groups", "1", "--replicas", "1", "--out", str(tmp_path / "o")
    )
    assert other.returncode == 0
    taken = run("node", "--data", str(tmp_path / "o" / "node-1"))
    assert (taken.returncode, "cannot listen" in taken.stderr) == (5, True)
    assert run("form", "--nodes", "nonsense", "--out", str(tmp_path / "p")).returncode == 2
    cluster.nodes.pop(1).stop()
    for journal in directory.glob("journal-*"):
        journal.unlink()
    lost = run("node", "--data", str(directory))
    assert (lost.returncode, "lost its journal" in lost.stderr) == (3, True)


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("127.0.0.1:99999", "0 to 65535"),
        ("nonsense", "HOST:PORT"),
        (":7001", "HOST:PORT"),
        ("no.such.host.invalid:7001", "cannot listen on no.such.host.invalid:7001"),
        ("a..b:7001", "cannot listen on a..b:7001"),
    ],
)
def test_where_nobody_can_listen_is_a_wrong_argument(listen: str, words: str, tmp_path: Path) -> None:
    run("form", "--nodes", free_addresses(1)[0], "--replicas", "1", "--out", str(tmp_path))
    wrong = run("node", "--data", str(tmp_path / "node-1"), "--listen", listen)
    assert (wrong.returncode, words in wrong.stderr, "Traceback" in wrong.stderr) == (2, True, False), wrong.stderr


def test_a_damaged_directory_is_one_sentence_and_its_code(tmp_path: Path) -> None:
    run("form", "--nodes", free_addresses(1)[0], "--replicas", "1", "--out", str(tmp_path))
    directory = tmp_path / "node-1"
    for name, damage in (("formation.json", b'{"slots": ""}'), ("identity", b"\xff\xfe\x00")):
        before = (directory / name).read_bytes()
        (directory / name).write_bytes(damage)
        damaged = run("node", "--data", str(directory))
        assert (damaged.returncode, damaged.stderr.count("\n")) == (3, 1), damaged.stderr
        (directory / name).write_bytes(before)


def test_a_directory_that_cannot_be_written_ends_with_the_code_of_a_failed_disk(tmp_path: Path) -> None:
    formed = run("form", "--nodes", free_addresses(1)[0], "--replicas", "1", "--out", str(tmp_path))
    assert formed.returncode == 0
    (tmp_path / "node-1" / f"{BEGUN_FILE}.tmp").mkdir()
    failed = run("node", "--data", str(tmp_path / "node-1"))
    assert (failed.returncode, "Traceback" in failed.stderr) == (4, False), failed.stderr


def test_a_flipped_byte_of_what_was_acknowledged_refuses_to_start(cluster: Cluster) -> None:
    cluster.nodes.pop(1).stop()
    (journal,) = sorted((cluster.root / "node-1").glob("journal-*"))[:1]
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 0x40
    journal.write_bytes(data)
    damaged = run("node", "--data", str(cluster.root / "node-1"))
    assert (damaged.returncode, "damaged" in damaged.stderr) == (3, True)


async def test_a_resting_node_marks_its_journal_and_leads_on(cluster: Cluster) -> None:
    caller = await cluster.leader()
    before = await caller.ask(Msg.STATUS, 0, b"")

    def last_kinds() -> set[bytes]:
        journals = [path for node in cluster.nodes.values() for path in node.directory.glob("journal-*.log")]
        return {data[data.rindex(MARK[:3]) :][:4] for data in map(Path.read_bytes, journals)}

    async with asyncio.timeout(5):
        while last_kinds() != {MARK}:
            await asyncio.sleep(0.05)
    # Longer than a leader goes on that hears nothing of its own disk.
    await asyncio.sleep(1.2)
    await operate(caller, REGISTER)
    after = await caller.ask(Msg.STATUS, 0, b"")
    assert [group["term"] for group in after["groups"]] == [group["term"] for group in before["groups"]]
    for node in cluster.nodes.values():
        assert node.stop() == 0
    assert last_kinds() == {MARK}


async def test_a_node_that_moved_is_found_by_its_announcement(cluster: Cluster) -> None:
    await cluster.leader()
    cluster.nodes.pop(3).stop()
    (address,) = free_addresses(1)
    cluster.nodes[3] = NodeProcess(cluster.root / "node-3", "--listen", address)
    caller = Caller()
    await caller.dial(cluster.addresses[0])
    await caller.hello(cluster.formation)
    while True:
        kind, _, _, body = await caller.next()
        if kind in (Msg.META, Msg.TENANTS) and address.encode() in body:
            break


async def until_meta(cluster: Cluster, node: int, address: str) -> MetaRecord:
    """What node 1 tells routers, once it says that ``node`` is at ``address``."""
    caller = Caller()
    async with asyncio.timeout(20):
        await caller.dial(cluster.nodes[1].address)
        await caller.hello(cluster.formation)
        record: MetaRecord | None = None
        while record is None or record.nodes[node - 1].address != address:
            kind, _, _, body = await caller.next()
            if kind == Msg.META:
                record = decode_meta(body)
            elif kind == Msg.TENANTS:
                assert record is not None
                delta = decode_delta(body)
                record = msgspec.structs.replace(record, version=delta.version, nodes=delta.nodes or record.nodes)
        return record


def restart(cluster: Cluster, number: int, *extra: str) -> None:
    cluster.nodes.pop(number).stop()
    cluster.nodes[number] = NodeProcess(cluster.root / f"node-{number}", *extra)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Cluster]:
    """Node 1 has the meta group, node 2 has no replica of it."""
    cluster = Cluster(tmp_path / "cluster", nodes=2, replicas=1)
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("number", [1, 2])
async def test_a_node_that_comes_back_to_its_place_takes_its_announcement_back(two: Cluster, number: int) -> None:
    (elsewhere,) = free_addresses(1)
    restart(two, number, "--listen", elsewhere)
    moved = await until_meta(two, number, elsewhere)
    restart(two, number)
    back = await until_meta(two, number, two.addresses[number - 1])
    assert (moved.version, back.version) == (2, 3)
    restart(two, number)
    assert (await until_meta(two, number, two.addresses[number - 1])).version == 3
    restart(two, number, "--listen", elsewhere)
    assert (await until_meta(two, number, elsewhere)).version == 4, "what is known is announced at no cost"


async def test_what_is_advertised_is_kept_as_given(two: Cluster) -> None:
    port = int(free_addresses(1)[0].rpartition(":")[2])
    restart(two, 1, "--plaintext", "--listen", f"0.0.0.0:{port}", "--advertise", f"node-1.example:{port}")
    assert two.nodes[1].address == f"0.0.0.0:{port}"
    await until_meta(two, 1, f"node-1.example:{port}")
    restart(two, 1, "--listen", f"localhost:{port}")
    await until_meta(two, 1, f"localhost:{port}")
    restart(two, 1, "--listen", "127.0.0.1:0")
    await until_meta(two, 1, two.nodes[1].address)
    restart(two, 1, "--advertise", "node-1.example:1")
    assert two.nodes[1].address == two.addresses[0]
    await until_meta(two, 1, "node-1.example:1")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen", "0.0.0.0:7001"],
        ["--listen", "0:7001"],
        ["--listen", ":::7001"],
        ["--listen", "[::]:7001"],
        ["--listen", "0.0.0.0:7001", "--advertise", "0.0.0.0:7001"],
        ["--listen", "127.0.0.1:7001", "--advertise", "[::]:7001"],
        ["--advertise", "node-1.example:0"],
        ["--advertise", "node-1.example"],
    ],
)
def test_an_address_that_nobody_can_connect_to_is_not_announced(arguments: list[str], tmp_path: Path) -> None:
    refused = run("node", "--data", str(tmp_path / "missing"), *arguments)
    assert (refused.returncode, "HOST:PORT" in refused.stderr, "--advertise" in refused.stderr) == (2, True, True)


def test_a_cluster_is_not_formed_of_addresses_that_nobody_can_connect_to(tmp_path: Path) -> None:
    refused = run("form", "--nodes", "0.0.0.0:7001", "--replicas", "1", "--out", str(tmp_path))
    assert (refused.returncode, "nobody can connect" in refused.stderr) == (2, True)
