"""A real router before real nodes: good callers are served, bad ones refused with the reason, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from holdfast.wire.errors import Code
from holdfast.wire.frames import (
    Answers,
    EventKind,
    Kind,
    Options,
    Section,
    Status,
    decode_answers,
    decode_events,
    encode,
)
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX, SECTION_BYTES_MAX
from holdfast.wire.messages import Msg, Refusal, Request, decode_refusal, decode_table
from holdfast.wire.names import slot_of
from holdfast.wire.tenants import Quotas
from tests.machine.driver import Op, section
from tests.node.processes import Caller, NodeProcess, free_addresses, run
from tests.tenants import key_of, key_text, tenant_of

OTHER_KEY = key_text("other")


class Service:
    """One node, one router, and besides the built-in tenant 1 a tenant 2, with other quotas than usual if given."""

    def __init__(self, root: Path, quotas: Quotas | None = None) -> None:
        (address,) = free_addresses(1)
        formed = run("form", "--nodes", address, "--groups", "2", "--replicas", "1", "--out", str(root))
        self.key = json.loads(formed.stdout)["api_key"]
        self.operator_key = json.loads(formed.stdout)["operator_key"]
        for path in (root / "formation.json", root / "node-1" / "formation.json"):
            self.formation: dict[str, Any] = json.loads(path.read_text())
            other = tenant_of(2, key_of(OTHER_KEY))
            other = msgspec.structs.replace(other, quotas=quotas or other.quotas)
            self.formation["tenants"].append(msgspec.to_builtins(other))
            path.write_text(json.dumps(self.formation))
        self.root = root
        self.node = NodeProcess(root / "node-1")
        self.router = self.start_router()

    def start_router(self, *extra: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "holdfast_router", "--formation", str(self.root / "formation.json"),
             "--listen", "127.0.0.1:0", *extra],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment},
        )  # fmt: skip
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        self.address, self.http, self.grpc = said["address"], said["http"], said["grpc"]
        return process

    @contextmanager
    def another_router(self) -> Iterator[str]:
        first = self.address, self.http, self.grpc
        process = self.start_router()
        address = self.address
        self.address, self.http, self.grpc = first
        try:
            yield address
        finally:
            process.terminate()
            assert process.wait(10) == 0
            assert process.stdout is not None
            process.stdout.close()

    def stop(self) -> None:
        self.router.send_signal(signal.SIGTERM)
        assert self.router.wait(10) == 0
        assert self.router.stdout is not None
        self.router.stdout.close()
        assert self.node.stop() == 0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service") / "cluster")
    yield service
    service.stop()


@pytest.fixture(autouse=True)
async def no_connection_is_left() -> AsyncIterator[None]:
    yield
    await Caller.close_all()


class SentAway(Exception):
    """The router ends the connection, because another may serve the caller."""

    def __init__(self, body: bytes) -> None:
        refusal = decode_refusal(body)
        assert refusal.code == Code.UNAVAILABLE, refusal
        super().__init__(refusal.message)


class Sdk(Caller):
    """A caller that speaks as an SDK does, one request at a time; events are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = b""
        self.refusal = Refusal(0, "")
        self.events: list[Any] = []
        self._asked = 0

    async def open(self, service: Service, *, key: str = "", address: str = "") -> None:
        await self.dial(address or service.address)
        kind, body = await self.hello({"secret": key or service.key, "cluster": ""}, role="client")
        if kind == Msg.REFUSED:
            raise SentAway(body)
        assert kind == Msg.WELCOME
        while not self.groups:
            kind, _, _, body = await self.next()
            if kind == Msg.TABLE:
                self.groups = decode_table(body).groups

    def group_of(self, name: str, tenant: int = 1) -> int:
        slot = slot_of(tenant, name)
        return int.from_bytes(self.groups[2 * slot : 2 * slot + 2], "little")

    async def request(
        self, group: int, columns: Section | bytes, *, kind: int = Msg.OPS, deadline_ms: int = 5000
    ) -> Answers | int:
        """The answers, or the code of the refusal, which stands in ``refusal``."""
        self._asked += 1
        body = columns if isinstance(columns, bytes) else encode(columns)
        self.connection.send(kind, group, self._asked, encode(Request(deadline_ms, msgspec.Raw(body))))
        return await self.reply(self._asked)

    async def reply(self, wanted: int) -> Answers | int:
        while True:
            kind, _, request, body = await self.next()
            if kind == Msg.EVENTS:
                self.events += decode_events(body)
            elif kind == Msg.REFUSED and request == 0:
                raise SentAway(body)
            elif request == wanted:
                if kind != Msg.REFUSED:
                    return decode_answers(body)
                self.refusal = decode_refusal(body)
                return self.refusal.code

    async def sent_away(self) -> None:
        """Returns once it was."""
        with pytest.raises(SentAway, match="reaches no node"):
            await self.reply(0)
        await self.closed.wait()

    async def answers(self, group: int, columns: Section) -> Answers:
        found = await self.request(group, columns)
        assert isinstance(found, Answers), found
        return found

    async def event(self) -> Any:
        """The first event there was, or will be."""
        while not self.events:
            kind, _, _, body = await self.next()
            if kind == Msg.EVENTS:
                self.events += decode_events(body)
        return self.events[0]

    async def register(self, group: int) -> int:
        return (await self.answers(group, section(0, 0, [Op(Kind.REGISTER)]))).tokens[0]


async def test_a_lock_through_router_and_node_and_its_event(service: Service) -> None:
    one, two = Sdk(), Sdk()
    await one.open(service)
    await two.open(service)
    group = one.group_of("a")
    first, second = await one.register(group), await two.register(group)
    held = await one.answers(group, section(first, 1, [Op(Kind.ACQUIRE, 1, "a")]))
    assert held.statuses == bytes([Status.OK])
    queued = await two.answers(group, section(second, 1, [Op(Kind.ACQUIRE, 1, "a", wait=30_000)]))
    assert queued.statuses == bytes([Status.QUEUED])
    await one.answers(group, section(first, 2, [Op(Kind.RELEASE, 2, "a", token=held.tokens[0])]))
    event = await two.event()
    assert (event.kind, event.token > held.tokens[0]) == (EventKind.GRANTED, True)


async def test_an_unknown_key_another_version_and_another_role_are_refused(service: Service) -> None:
    for fields, code in (({"key": "hf_no"}, 4), ({"version": 9}, 3), ({"role": "router"}, 4)):
        caller = Caller()
        await caller.dial(service.address)
        wanted: dict[str, Any] = {"role": "client", "key": service.key, **fields}
        assert await caller.refused({"secret": "", "cluster": ""}, **wanted) == code
        await caller.closed.wait()


async def test_bad_requests_are_refused_and_the_connection_is_kept(service: Service) -> None:
    sdk = Sdk()
    await sdk.open(service)
    group = sdk.group_of("a")
    client = await sdk.register(group)
    many = section(client, 1, [Op(Kind.ACQUIRE, n + 1, "a") for n in range(OPERATIONS_PER_SECTION_MAX + 1)])
    other = next(name for name in map(str, range(100)) if sdk.group_of(name) != group)
    wrong: list[tuple[int, Section | bytes, int, Code]] = [
        (group, b"\xc0", Msg.OPS, Code.BAD_MESSAGE),
        (group, os.urandom(0) + encode([1, 2]), Msg.OPS, Code.BAD_MESSAGE),
        (group, many, Msg.OPS, Code.TOO_LARGE),
        (group, section(client, 1, [Op(Kind.ACQUIRE, 1, other)]), Msg.OPS, Code.MOVED),
        (group, section(client, 1, [Op(Kind.ALLOT, 1, "a")]), Msg.OPS, Code.BAD_MESSAGE),
        (group, section(client, 1, [Op(Kind.ACQUIRE, 1, "a")]), Msg.READ, Code.BAD_MESSAGE),
        (0, section(client, 1, [Op(Kind.KEEPALIVE, 1)]), Msg.OPS, Code.NO_SUCH_GROUP),
        (99, section(client, 1, [Op(Kind.KEEPALIVE, 1)]), Msg.OPS, Code.NO_SUCH_GROUP),
    ]
    for target, columns, kind, code in wrong:
        assert await sdk.request(target, columns, kind=kind) == code
    for deadline_ms in (0, -1, 60_001):
        assert await sdk.request(group, section(client, 1, []), deadline_ms=deadline_ms) == Code.INVALID
    sdk.connection.send(Msg.OPS, group, 777, bytes(SECTION_BYTES_MAX + 100))
    assert await sdk.reply(777) == Code.TOO_LARGE
    sdk.connection.send(Msg.META, group, 778, b"")
    assert await sdk.reply(778) == Code.BAD_MESSAGE
    release = Section(client, 1, bytes([Kind.RELEASE]), [1], ["a"], [0], [1], [0], [0], {7: Options()})
    fine = await sdk.answers(group, release)
    assert fine.statuses == bytes([Status.NOT_HELD])


@pytest.mark.parametrize("through", ["the same router", "another router"])
async def test_whoever_claims_anothers_client_number_neither_gets_nor_diverts_its_events(
    service: Service, through: str
) -> None:
    one, two, thief, colleague = Sdk(), Sdk(), Sdk(), Sdk()
    await one.open(service)
    await two.open(service)
    await colleague.open(service)
    with service.another_router() as address:
        await thief.open(service, key=OTHER_KEY, address=address if through == "another router" else "")
        name = f"secret/{through}"
        group = one.group_of(name)
        first, second = await one.register(group), await two.register(group)
        held = await one.answers(group, section(first, 1, [Op(Kind.ACQUIRE, 1, name)]))
        await two.answers(group, section(second, 1, [Op(Kind.ACQUIRE, 1, name, wait=30_000)]))
        for claims in (thief, colleague):
            await claims.request(group, section(second, 1, [Op(Kind.SESSIONS)]), kind=Msg.READ)
        refused = await thief.answers(group, section(second, 1, [Op(Kind.KEEPALIVE, 1)]))
        assert refused.statuses == bytes([Status.UNREGISTERED])
        await one.answers(group, section(first, 2, [Op(Kind.RELEASE, 2, name, token=held.tokens[0])]))
        await two.event()
        await thief.request(group, section(second, 1, [Op(Kind.SESSIONS)]), kind=Msg.READ)
        assert thief.events == []


async def test_a_section_that_a_node_could_not_read_spoils_no_others(service: Service) -> None:
    good, bad = Sdk(), Sdk()
    await good.open(service)
    await bad.open(service, key=OTHER_KEY)
    group = good.group_of("a")
    number = await good.register(group)
    columns: list[Any] = [number, 1, bytes([Kind.KEEPALIVE]), [1], [""], [0], [0], [0], [0], {}]
    uneven, longer = list(columns), [*columns, 0]
    columns[5] = ["text"]
    uneven[6] = []
    for wrong in (columns, uneven, longer):
        bad.connection.send(Msg.OPS, group, 9, encode(Request(5000, msgspec.Raw(encode(wrong)))))
        fine = await good.answers(group, section(number, 1, [Op(Kind.RELEASE, 1, "a", token=1)]))
        assert fine.statuses == bytes([Status.NOT_HELD])
        assert await bad.reply(9) == Code.BAD_MESSAGE


async def test_reads_with_wrong_numbers_stop_no_node(service: Service) -> None:
    sdk = Sdk()
    await sdk.open(service)
    group = sdk.group_of("a")
    for kind in (Kind.LIST, Kind.SESSIONS):
        for options in (Options(limit=-1), Options(cursor="9" * 5000)):
            found = await sdk.request(group, section(0, 0, [Op(kind, options=options)]), kind=Msg.READ)
            assert isinstance(found, Answers)
    assert service.node.process.poll() is None


async def test_a_crowd_that_asks_for_status_is_answered_at_little_cost(service: Service) -> None:
    sdk = Sdk()
    await sdk.open(service)
    for request in range(1, 1001):
        sdk.connection.send(Msg.STATUS, 0, request, b"")
    answered: set[int] = set()
    while len(answered) < 1000:
        kind, _, request, _ = await sdk.next()
        if kind == Msg.STATUS:
            answered.add(request)


async def back(service: Service) -> Sdk:
    """A caller that was sent away dials until the router reaches its node again; there is no other router."""
    async with asyncio.timeout(10):
        while True:
            sdk = Sdk()
            try:
                await sdk.open(service)
                return sdk
            except SentAway:
                await sdk.closed.wait()


async def test_no_leader_is_an_error_within_the_deadline_and_everything_goes_on_afterwards(service: Service) -> None:
    sdk = Sdk()
    await sdk.open(service)
    group = sdk.group_of("c")
    client = await sdk.register(group)
    asked = section(client, 1, [Op(Kind.ACQUIRE, 1, "c")])
    service.node.stop(signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    code = await sdk.request(group, asked, deadline_ms=300)
    assert code in (Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN)
    assert asyncio.get_running_loop().time() - began < 2
    service.node = NodeProcess(service.root / "node-1")
    try:
        answer = await sdk.answers(group, asked)
    except SentAway:
        # A node that is slow to start is away for longer than the router keeps callers that it cannot serve.
        answer = await (await back(service)).answers(group, asked)
    assert answer.statuses == bytes([Status.OK])


async def test_a_router_that_reaches_no_node_sends_its_callers_away_and_serves_them_again(service: Service) -> None:
    sdk = Sdk()
    await sdk.open(service)
    group = sdk.group_of("away")
    client = await sdk.register(group)
    asked = section(client, 1, [Op(Kind.ACQUIRE, 1, "away")])
    before = await sdk.answers(group, asked)
    service.node.stop(signal.SIGKILL)
    await sdk.sent_away()
    with pytest.raises(SentAway, match="reaches no node"):
        await Sdk().open(service)
    service.node = NodeProcess(service.root / "node-1")
    after = await (await back(service)).answers(group, asked)
    assert (before.statuses, after.tokens) == (bytes([Status.OK]), before.tokens)


async def test_random_bytes_end_the_connection_and_nothing_else(service: Service) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000), bytes(64)):
        caller = Caller()
        await caller.dial(service.address)
        assert caller.connection.transport is not None
        caller.connection.transport.write(garbage)
        await caller.closed.wait()
    sdk = Sdk()
    await sdk.open(service)


def test_a_router_says_why_it_cannot_start(service: Service, tmp_path: Path) -> None:
    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "holdfast_router", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    formation = str(service.root / "formation.json")
    taken = start("--formation", formation, "--listen", service.address)
    assert (taken.returncode, "cannot listen" in taken.stderr) == (5, True)
    missing = start("--formation", str(tmp_path / "none"))
    assert (missing.returncode, "cannot read" in missing.stderr) == (3, True)
    assert start("--formation", formation, "--listen", "nonsense").returncode == 2
    assert start("--formation", formation, "--tls-cert", "x").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "127.0.0.1:99999"], "0 to 65535"),
        (["--listen", "no.such.host.invalid:1"], "cannot listen on no.such.host.invalid:1"),
        (["--tls-cert", "NONE", "--tls-key", "NONE"], "cannot read certificate NONE"),
        (["--tls-cert", "JUNK", "--tls-key", "NONE"], "cannot read key NONE"),
        (["--tls-cert", "JUNK", "--tls-key", "JUNK"], "both PEM"),
        (["--tls-cert", "CERT", "--tls-key", "ENCRYPTED"], "is encrypted"),
    ],
)
def test_wrong_arguments_are_said_in_words(service: Service, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "JUNK").write_text("junk")
    if "CERT" in arguments:
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "CERT")
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        secret = serialization.BestAvailableEncryption(b"secret")
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        (tmp_path / "ENCRYPTED").write_bytes(key.private_bytes(*form, secret))
    command = [sys.executable, "-m", "holdfast_router", "--formation", str(service.root / "formation.json"), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    wrong = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert (wrong.returncode, words in wrong.stderr, "Traceback" in wrong.stderr) == (2, True, False), wrong.stderr


def test_a_router_refuses_a_formation_with_an_address_that_is_none(service: Service, tmp_path: Path) -> None:
    formation = {**service.formation, "nodes": [[1, "127.0.0.1:99999", "x"]]}
    (tmp_path / "formation.json").write_text(json.dumps(formation))
    command = [sys.executable, "-m", "holdfast_router", "--formation", str(tmp_path / "formation.json")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (refused.returncode, "1 to 65535" in refused.stderr) == (3, True), refused.stderr
