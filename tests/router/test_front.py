"""Before HELLO is accepted a caller gets little room and little time, and is told why it is turned away."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import encode
from holdfast.wire.limits import (
    HELLO_BYTES_MAX,
    KEEPALIVE_IDLE_S,
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    UNACKNOWLEDGED_MS_MAX,
)
from holdfast.wire.messages import Beat, Hello, MetaRecord, Msg, Role, decode_refusal
from holdfast.wire.stream import Connection, pack
from holdfast_router import front
from holdfast_router.directory import META_SILENCE_S, Directory
from holdfast_router.front import REQUEST_BYTES_MAX, Front
from tests.node.processes import Caller
from tests.tenants import TENANT_KEY, key_of, key_text, meta_of, tenant_of

KEY = TENANT_KEY
META = meta_of()


class Router:
    """A router's front without what is behind it; and what it hears of its cluster."""

    def __init__(self) -> None:
        self.now = 0.0
        self.directory = Directory(lambda: self.now)
        self.alone = False
        self.sections: list[bytes] = []
        self.connections: list[Connection] = []
        self.front = Front(
            directory=self.directory,
            alone=lambda: self.alone,
            seal_of=lambda tenant: b"seal %d" % tenant,
            roles=list,
            on_section=lambda caller, kind, group, request, deadline_s, section: self.sections.append(section),
            on_watch=lambda caller, group, request, body: None,
            on_status=lambda caller, request: None,
            on_admin=lambda caller, request, body: None,
            on_closed=lambda caller: None,
        )

    def hears(self, record: MetaRecord = META) -> None:
        """The meta group's leader speaks."""
        self.directory.adopt(record)
        self.directory.beat(Beat(record.version, 1))

    def hears_nothing(self) -> None:
        self.now += META_SILENCE_S

    async def start(self) -> None:
        self.server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def _accept(self) -> Connection:
        self.connections.append(self.front.protocol())
        return self.connections[-1]

    async def caller(self, *messages: tuple[int, bytes]) -> Caller:
        """One that sends these, in one write."""
        caller = Caller()
        await caller.dial(self.address)
        assert caller.connection.transport is not None
        caller.connection.transport.write(b"".join(pack(kind, 0, 0, body) for kind, body in messages))
        return caller


def hello(size: int = 0, **fields: str) -> bytes:
    """The body of a good HELLO, of ``size`` bytes."""
    body = encode(Hello(PROTOCOL_VERSION, Role.CLIENT, fields.get("key", KEY)))
    if not size:
        return body
    # The agent is the last field; a text of 256 to 65,535 bytes has a header of three, the empty one has one.
    return encode(Hello(PROTOCOL_VERSION, Role.CLIENT, fields.get("key", KEY), agent="a" * (size - len(body) - 2)))


async def turned_away(caller: Caller) -> int:
    kind, _, request, body = await caller.next()
    assert (kind, request) == (Msg.REFUSED, 0)
    async with asyncio.timeout(5):
        await caller.closed.wait()
    assert caller.messages.empty()
    return decode_refusal(body).code


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router()
    await router.start()
    yield router
    router.server.close()
    await Caller.close_all()
    router.front.close()


async def test_a_hello_has_at_most_its_limit_and_once_accepted_requests_have_theirs(router: Router) -> None:
    router.hears()
    assert len(hello(HELLO_BYTES_MAX)) == HELLO_BYTES_MAX
    caller = await router.caller((Msg.HELLO, hello(HELLO_BYTES_MAX)))
    assert (await caller.next())[0] == Msg.WELCOME
    assert router.connections[0].body_bytes_max == REQUEST_BYTES_MAX
    assert await turned_away(await router.caller((Msg.HELLO, hello(HELLO_BYTES_MAX + 1)))) == Code.TOO_LARGE
    assert await turned_away(await router.caller((Msg.OPS, bytes(HELLO_BYTES_MAX + 1)))) == Code.TOO_LARGE


async def test_a_connection_says_hello_once_also_while_it_waits(router: Router) -> None:
    twice = [(int(Msg.HELLO), hello())] * 2
    assert await turned_away(await router.caller(*twice)) == Code.BAD_MESSAGE
    router.hears()
    caller = await router.caller(*twice)
    assert [(await caller.next())[0] for _ in range(3)] == [Msg.WELCOME, Msg.TABLE, Msg.ROLES]
    assert await turned_away(caller) == Code.BAD_MESSAGE


async def test_who_comes_before_the_cluster_is_known_waits_and_is_welcomed_or_refused(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await router.caller((Msg.HELLO, hello()))
    bad = await router.caller((Msg.HELLO, hello(key="hf_wrong")))
    eager = await router.caller((Msg.HELLO, hello()), (Msg.STATUS, b""))
    assert await turned_away(eager) == Code.UNAVAILABLE
    router.front.settle_early()
    assert good.messages.empty()
    router.hears()
    router.front.settle_early()
    assert (await good.next())[0] == Msg.WELCOME
    assert await turned_away(bad) == Code.UNAUTHENTICATED
    router.hears_nothing()
    monkeypatch.setattr(front, "META_WAIT_S", 0.05)
    assert await turned_away(await router.caller((Msg.HELLO, hello()))) == Code.UNAVAILABLE


async def test_only_so_many_callers_wait_and_those_who_leave_make_room(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "HELLOS_WAITING_MAX", 2)
    first = await router.caller((Msg.HELLO, hello()))
    second = await router.caller((Msg.HELLO, hello()))
    assert await turned_away(await router.caller((Msg.HELLO, hello()))) == Code.OVERLOADED
    first.connection.abort()
    async with asyncio.timeout(5):
        while not router.connections[0].closed:
            await asyncio.sleep(0.001)
    third = await router.caller((Msg.HELLO, hello()))
    async with asyncio.timeout(5):
        while len(router.front._early) < 2:
            await asyncio.sleep(0.001)
    router.hears()
    router.front.settle_early()
    assert [(await caller.next())[0] for caller in (second, third)] == [Msg.WELCOME] * 2


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Code.TOO_LARGE),
        (bytes(64), Code.BAD_MESSAGE),
        (struct.pack("<IBHI", MESSAGE_BYTES_MAX + 1, Msg.HELLO, 0, 0), Code.TOO_LARGE),
        (pack(Msg.HELLO, 0, 0, encode(Hello(PROTOCOL_VERSION + 1, Role.CLIENT, KEY))), Code.VERSION),
        (pack(Msg.HELLO, 0, 0, b"\xc1"), Code.BAD_MESSAGE),
        (pack(Msg.PING, 0, 0, b"") * 1000, Code.BAD_MESSAGE),
    ],
)
async def test_what_is_no_hello_is_refused_once_with_a_code(router: Router, message: bytes, code: Code) -> None:
    router.hears()
    caller = await router.caller()
    assert caller.connection.transport is not None
    caller.connection.transport.write(message)
    assert await turned_away(caller) == code


async def test_who_says_nothing_is_told_what_is_missing(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "HELLO_TIMEOUT_S", 0.05)
    assert await turned_away(await router.caller()) == Code.BAD_MESSAGE


async def test_the_kernel_looks_after_an_accepted_connection(router: Router) -> None:
    router.hears()
    caller = await router.caller((Msg.HELLO, hello()))
    await caller.next()
    (connection,) = router.connections
    assert connection.transport is not None
    accepted = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    assert idle is not None
    assert accepted.getsockopt(socket.IPPROTO_TCP, idle) == KEEPALIVE_IDLE_S
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNACKNOWLEDGED_MS_MAX


async def test_a_router_that_reaches_no_node_sends_its_callers_away(router: Router) -> None:
    router.hears()
    caller = await router.caller((Msg.HELLO, hello()))
    assert [(await caller.next())[0] for _ in range(3)] == [Msg.WELCOME, Msg.TABLE, Msg.ROLES]
    router.alone = True
    router.front.send_away(front.ALONE)
    kind, _, _, body = await caller.next()
    assert (kind, decode_refusal(body).code) == (Msg.REFUSED, Code.UNAVAILABLE)
    await caller.closed.wait()
    late = await router.caller((Msg.HELLO, hello()))
    kind, _, _, body = await late.next()
    assert (kind, decode_refusal(body).code) == (Msg.REFUSED, Code.UNAVAILABLE)
    await late.closed.wait()
    router.alone = False
    again = await router.caller((Msg.HELLO, hello()))
    assert (await again.next())[0] == Msg.WELCOME


async def test_a_router_that_hears_nothing_from_the_meta_group_lets_nobody_new_in(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.directory.adopt(META)
    waits = await router.caller((Msg.HELLO, hello()))
    router.front.settle_early()
    assert waits.messages.empty()
    router.hears()
    router.front.settle_early()
    assert (await waits.next())[0] == Msg.WELCOME
    router.hears_nothing()
    monkeypatch.setattr(front, "META_WAIT_S", 0.05)
    assert await turned_away(await router.caller((Msg.HELLO, hello()))) == Code.UNAVAILABLE


async def test_who_has_a_key_that_ends_is_told_so_and_closed_at_once_and_nobody_else(router: Router) -> None:
    keys = [key_of(key_text(letter)) for letter in "abc"]
    other = tenant_of(2, key_of(key_text("d")))
    router.hears(meta_of(tenant_of(1, *keys), other))
    callers = [await router.caller((Msg.HELLO, hello(key=key_text(letter)))) for letter in "abcd"]
    for caller in callers:
        assert [(await caller.next())[0] for _ in range(3)] == [Msg.WELCOME, Msg.TABLE, Msg.ROLES]
    router.hears(meta_of(tenant_of(1, *keys[1:], version=2), other, version=2))
    assert await turned_away(callers[0]) == Code.UNAUTHENTICATED
    suspended = tenant_of(1, *keys[1:], version=3, state="suspended")
    router.hears(meta_of(suspended, other, version=3))
    for caller in callers[1:3]:
        assert await turned_away(caller) == Code.FORBIDDEN
    assert await turned_away(await router.caller((Msg.HELLO, hello(key=key_text("b"))))) == Code.FORBIDDEN
    assert await turned_away(await router.caller((Msg.HELLO, hello(key=key_text("a"))))) == Code.UNAUTHENTICATED
    router.hears(meta_of(other, version=4))
    assert await turned_away(await router.caller((Msg.HELLO, hello(key=key_text("b"))))) == Code.UNAUTHENTICATED
    assert not callers[3].connection.closed
