"""What callers of HTTP may cost: slow ones, silent ones, large ones, many of them; and who may come from where."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from holdfast_router.http import application, connection, reading, server
from holdfast_router.http.line import Line
from holdfast_router.operations import presence
from holdfast_router.operations.requests import Get
from holdfast_router.process import Router
from tests.router.routers import OTHER, Node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("http") / "cluster")
    yield node
    assert node.process.stop() == 0


@pytest.fixture
async def router(node: Node) -> AsyncIterator[Router]:
    router = await node.router()
    yield router
    await router.close()


async def listening(router: Router, **options: Any) -> str:
    await router.listen_http("127.0.0.1", 0, None, **options)
    assert router.http is not None
    return router.http.address


class Caller:
    """Says over HTTP what no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self.reader = reader
        self.writer = writer
        self._key = key

    def say(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)

    def head(self, method: str, path: str, **fields: str) -> str:
        named = {"Host": "a", "Authorization": f"Bearer {self._key}", **fields}
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items()]
        return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n"

    def post(self, path: str, body: bytes, **fields: str) -> bytes:
        given = {"Content_Type": "application/json", "Content_Length": str(len(body)), **fields}
        return self.head("POST", path, **given).encode() + body

    async def answer(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await self.reader.readexactly(int(fields["content-length"]))
        return int(head[0].split()[1]), fields, json.loads(body)

    async def until_closed(self) -> bytes:
        """What else was said."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def trickle(self, text: str) -> None:
        """For ever, until nobody takes it."""
        while not self.writer.is_closing():
            self.say(text)
            await asyncio.sleep(0.02)


Dial = Callable[[], Any]


@pytest.fixture
async def dial(router: Router, node: Node) -> AsyncIterator[Dial]:
    """Connects to the router, which begins to listen with the first."""
    opened: list[Caller] = []

    async def dial() -> Caller:
        address = router.http.address if router.http is not None else await listening(router)
        host, _, port = address.rpartition(":")
        opened.append(Caller(*await asyncio.open_connection(host, int(port)), node.key))
        return opened[-1]

    yield dial
    for caller in opened:
        caller.writer.transport.abort()
    await asyncio.sleep(0)


# Slow ones.


async def test_who_says_nothing_or_too_little_at_first_is_closed(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST_S", 0.2)
    silent, slow = await dial(), await dial()
    slow.say("GET /healthz HTTP/1.1\r\n")
    trickling = asyncio.create_task(slow.trickle("X-Slow: 1\r\n"))
    assert await silent.until_closed() == b""
    assert await slow.until_closed() == b""
    trickling.cancel()


async def test_a_later_head_that_is_begun_has_to_end(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.2)
    caller = await dial()
    caller.say(caller.head("GET", "/healthz"))
    assert (await caller.answer())[0] == 200
    caller.say("GET /healthz HTTP/1.1\r\n")
    trickling = asyncio.create_task(caller.trickle("X-Slow: 1\r\n"))
    assert await caller.until_closed() == b""
    trickling.cancel()


async def test_a_body_has_to_come_in_time_and_its_rest_is_not_waited_for(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_S", 0.2)
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.5)
    caller = await dial()
    caller.say(caller.post("/v1/acquire", b"", Content_Length="1000"))
    trickling = asyncio.create_task(caller.trickle(" "))
    status, _, problem = await caller.answer()
    assert (status, problem["code"]) == (408, "request-timeout")
    assert await caller.until_closed() == b""
    trickling.cancel()


async def test_a_body_that_nobody_reads_keeps_no_connection(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.3)
    caller = await dial()
    caller.say(caller.head("GET", "/healthz", Content_Length="1000000000"))
    trickling = asyncio.create_task(caller.trickle("x"))
    assert (await caller.answer())[0] == 200
    assert await caller.until_closed() == b""
    trickling.cancel()


async def test_an_idle_connection_is_closed(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.2)
    caller = await dial()
    for _ in range(2):
        caller.say(caller.head("GET", "/healthz"))
        assert (await caller.answer())[0] == 200
    assert await caller.until_closed() == b""


async def test_who_takes_nothing_of_the_answers_is_disconnected(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALLED_S", 0.2)
    caller = await dial()
    caller.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.writer.transport.pause_reading()
    for _ in range(300):  # of a document of tens of kilobytes
        caller.say(caller.head("GET", "/openapi.json"))
    while not caller.writer.is_closing():
        caller.say(" " * 1000)
        await asyncio.sleep(0.02)


async def test_a_request_behind_one_that_waits_is_not_late(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.1)
    caller = await dial()
    caller.say(caller.post("/v1/acquire", b'{"name": "behind"}'))
    assert (await caller.answer())[0] == 200
    caller.say(
        caller.post("/v1/acquire", b'{"name": "behind", "wait_ms": 500}') + caller.head("GET", "/healthz").encode()
    )
    assert (await caller.answer())[2]["code"] == "lock-timeout"
    assert (await caller.answer())[0] == 200


async def test_what_stands_behind_one_that_waits_is_answered_after_it_or_not_at_all(dial: Dial) -> None:
    """An answer that comes before its turn would be taken for that to a request which may have been carried out."""
    holder = await dial()
    holder.say(holder.post("/v1/acquire", b'{"name": "in turn"}'))
    assert (await holder.answer())[0] == 200
    waits = holder.post("/v1/acquire", b'{"name": "in turn", "wait_ms": 300}')
    behind = holder.head("GET", "/healthz").encode()
    holder.say(waits + behind * connection.PIPELINED_MAX)
    assert (await holder.answer())[2]["code"] == "lock-timeout"
    for _ in range(connection.PIPELINED_MAX):
        assert (await holder.answer())[0] == 200
    for too_much in (behind * (connection.PIPELINED_MAX + 1), behind + b"\x16\x03\x01 nonsense\r\n\r\n", b"\0\0"):
        caller = await dial()
        caller.say(waits + too_much)
        assert await caller.until_closed() == b""


async def test_who_hangs_up_is_missed_also_when_more_stands_behind_what_he_waits_for(
    router: Router, dial: Dial, node: Node
) -> None:
    holder, waiting = await dial(), await dial()
    holder.say(holder.post("/v1/acquire", b'{"name": "missed"}'))
    assert (await holder.answer())[0] == 200
    waits = waiting.post("/v1/acquire", b'{"name": "missed", "wait_ms": 60000}')
    waiting.say(waits + waiting.head("GET", "/healthz").encode())
    await waiters(router, node, "missed", 1)
    waiting.writer.transport.abort()
    await waiters(router, node, "missed", 0)


async def test_who_has_hung_up_when_its_request_is_begun_waits_for_nothing() -> None:
    loop = asyncio.get_running_loop()
    mine, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=mine)
    line = Line(transport, FlowControl(transport))
    called: list[str] = []
    line.when_gone(lambda: called.append("before"))
    line.when_gone(None)
    line.gone()
    line.when_gone(lambda: called.append("after"))
    assert called == ["after"]
    transport.abort()
    theirs.close()
    await asyncio.sleep(0)


async def waiters(router: Router, node: Node, name: str, count: int) -> None:
    async with asyncio.timeout(10):
        while (await router.operations.get(node.caller(router), Get(name=name))).waiters != count:
            await asyncio.sleep(0.001)


# Large ones.


async def test_a_head_has_its_limit(dial: Dial) -> None:
    caller = await dial()
    caller.say(caller.head("GET", "/healthz", X_Much="x" * (connection.HEADER_BYTES_MAX - 1000)))
    assert (await caller.answer())[0] == 200
    for method, path in (("GET", "/healthz"), ("GET", f"/v1/locks/{'x' * connection.HEADER_BYTES_MAX}")):
        long = caller.head(method, path, X_Much="x" * connection.HEADER_BYTES_MAX)
        caller.say(long)
        status, _, problem = await caller.answer()
        assert (status, problem["code"]) == (431, "head-too-large")
    caller.say(long[:-2] + "X-More: x" + "x" * connection.HEADER_BYTES_MAX)  # and no end of it
    status, fields, problem = await caller.answer()
    assert (status, fields["connection"], problem["code"]) == (431, "close", "head-too-large")
    assert await caller.until_closed() == b""


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01\x02\x00\x01", b"\0" * 20_000, b"GET\r\n\r\n"])
async def test_what_is_no_http_is_refused_and_closed(dial: Dial, nonsense: bytes) -> None:
    caller = await dial()
    caller.say(nonsense)
    said = await caller.until_closed()
    assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert b'{"type":"urn:holdfast:error:' in said


async def test_a_body_has_its_limit_whether_its_length_is_said_or_not(dial: Dial) -> None:
    most = b'{"name": "a"}'.ljust(reading.BODY_BYTES_MAX)
    caller = await dial()
    caller.say(caller.post("/v1/get", most))
    assert (await caller.answer())[0] == 200
    caller.say(caller.post("/v1/get", most + b" "))
    assert (await caller.answer())[2]["code"] == "too-large"
    caller.say(caller.head("POST", "/v1/get", Content_Type="application/json", Transfer_Encoding="chunked"))
    for at in range(0, len(most) + 1, 1 << 16):
        piece = (most + b" ")[at : at + (1 << 16)]
        caller.say(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    caller.say("0\r\n\r\n")
    assert (await caller.answer())[2]["code"] == "too-large"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-gzip", "gzip, identity"])
async def test_nothing_is_unpacked(dial: Dial, coding: str) -> None:
    caller = await dial()
    caller.say(caller.post("/v1/get", b'{"name": "a"}', Content_Encoding=coding))
    status, _, problem = await caller.answer()
    assert (status, problem["code"]) == (415, "unsupported-media-type")
    caller.say(caller.post("/v1/get", b'{"name": "a"}', Content_Encoding="identity"))
    assert (await caller.answer())[0] == 200
    caller.say(caller.post("/v1/get", b"", Transfer_Encoding=coding))
    status, _, problem = await caller.answer()
    assert (status, problem["code"]) == (400, "bad-request")


# Many of them.


async def test_so_many_connections_of_one_address_and_room_again_when_one_leaves(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_PER_ADDRESS_MAX", 2)
    await full_at_two(dial)


async def test_so_many_connections_in_all(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    await full_at_two(dial)


async def full_at_two(dial: Dial) -> None:
    first, second, third = [await dial() for _ in range(3)]
    status, fields, problem = await third.answer()
    assert (status, fields["retry-after"], problem["code"]) == (503, "1", "overloaded")
    assert await third.until_closed() == b""
    for caller in (first, second):
        caller.say(caller.head("GET", "/healthz"))
        assert (await caller.answer())[0] == 200
    first.say(first.head("GET", "/healthz", Connection="close"))
    await first.until_closed()
    while True:
        again = await dial()
        again.say(again.head("GET", "/healthz"))
        if (await again.answer())[0] == 200:
            return


async def test_so_many_requests_under_way(router: Router, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "REQUESTS_MAX", 1)
    holder, waiting, third = [await dial() for _ in range(3)]
    holder.say(holder.post("/v1/acquire", b'{"name": "many"}'))
    assert (await holder.answer())[0] == 200
    waiting.say(waiting.post("/v1/acquire", b'{"name": "many", "wait_ms": 60000}'))
    while True:
        third.say(third.head("GET", "/v1/locks/many"))
        status, fields, problem = await third.answer()
        if status == 503:
            break
    assert (problem["code"], fields["retry-after"]) == ("overloaded", "1")
    third.say(third.head("GET", "/v1/watch?name=many"))
    assert (await third.answer())[2]["code"] == "overloaded"
    third.say(third.head("GET", "/healthz"))
    assert (await third.answer())[0] == 200, "who watches over the router is still told"


async def test_so_many_requests_of_one_tenant_and_those_of_another_beside_them(
    router: Router, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "REQUESTS_MAX", 2)
    address = await listening(router)

    def client_of(key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://{address}", headers={"Authorization": f"Bearer {key}"})

    async with client_of(node.key) as mine, client_of(OTHER) as theirs:
        assert (await mine.post("/v1/acquire", json={"name": "crowded"})).status_code == 200
        waiting = asyncio.create_task(mine.post("/v1/acquire", json={"name": "crowded", "wait_ms": 60_000}))
        await waiters(router, node, "crowded", 1)
        answer = await mine.get("/v1/locks/crowded")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert (await theirs.get("/v1/locks/crowded")).status_code == 200
        waiting.cancel()


async def test_holders_keep_and_let_go_of_what_they_have_when_all_else_is_full(
    router: Router, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "REQUESTS_MAX", presence.RESERVE_PART)
    address = await listening(router)
    headers = {"Authorization": f"Bearer {node.key}"}
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=headers) as http:
        session = (await http.post("/v1/sessions", json={})).json()["session"]
        grant = (await http.post("/v1/acquire", json={"name": "kept"})).json()
        waits = {"name": "kept", "wait_ms": 60_000}
        waiting = [asyncio.create_task(http.post("/v1/acquire", json=waits)) for _ in range(4)]  # half of seven, up
        await waiters(router, node, "kept", len(waiting))
        assert (await http.post("/v1/acquire", json={"name": "more"})).status_code == 503
        held = {"name": "kept", "token": grant["token"]}
        assert (await http.post("/v1/renew", json=held)).status_code == 200
        assert (await http.post(f"/v1/sessions/{session}/keepalive", json={})).status_code == 200
        assert (await http.delete(f"/v1/sessions/{session}")).status_code == 200
        assert (await http.post("/v1/batch", json={"operations": [{"op": "renew", **held}]})).status_code == 503
        assert (await http.post("/v1/release", json=held)).status_code == 200
        for each in waiting:
            each.cancel()


# Pages of other origins.


async def test_pages_of_named_origins_may_use_it_and_no_others(router: Router, node: Node) -> None:
    address = await listening(router, cors_origins=["https://console.example"])
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        allowed = await http.options("/v1/acquire", headers={"Origin": "https://console.example", **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://console.example")
        assert "access-control-allow-credentials" not in allowed.headers
        given = {"Origin": "https://console.example", "Authorization": f"Bearer {node.key}"}
        shown = await http.get("/v1/locks/a", headers=given)
        assert shown.headers["access-control-allow-origin"] == "https://console.example"
        assert shown.headers["vary"] == "Origin"
        readable = {name.strip().lower() for name in shown.headers["access-control-expose-headers"].split(",")}
        assert {"etag", "ratelimit", "retry-after", "idempotent-replayed"} <= readable
        refused = await http.get("/v1/locks/a", headers={"Origin": "https://console.example"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://console.example")
        for origin in ("https://other.example", "null", "https://console.example.evil"):
            other = await http.options("/v1/acquire", headers={"Origin": origin, **asked})
            assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)
            got = await http.get("/v1/locks/a", headers={**given, "Origin": origin})
            assert "access-control-allow-origin" not in got.headers
