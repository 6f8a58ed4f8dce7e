"""Connections and calls of gRPC are bounded, and silent ones end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from holdfast.v1 import locks_pb2 as pb
from holdfast.wire.limits import CONNECTIONS_MAX
from holdfast_router.grpc import server
from tests.grpc.calling import Api, refused
from tests.grpc.test_front import Front
from tests.tenants import TENANT_KEY

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


async def listening(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Front:
    named = dict(server._OPTIONS) | {f"grpc.{name}": value for name, value in options.items()}
    monkeypatch.setattr(server, "_OPTIONS", tuple(named.items()))
    front = Front()
    await front.front.listen("127.0.0.1", 0, None)
    return front


async def dial(front: Front, says: bytes = PREFACE) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """The first that is answered: settings, or nothing when there is no room."""
    host, _, port = front.front.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(says)
    try:
        return await reader.read(9), reader, writer
    except ConnectionError:
        return b"", reader, writer


async def test_so_many_connections_and_room_again_when_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dict(server._OPTIONS)["grpc.max_allowed_incoming_connections"] == CONNECTIONS_MAX
    front = await listening(monkeypatch, max_allowed_incoming_connections=2)
    first, second, third = [await dial(front) for _ in range(3)]
    assert (bool(first[0]), bool(second[0]), third[0]) == (True, True, b"")
    first[2].close()
    async with asyncio.timeout(10):
        while not (again := await dial(front))[0]:
            again[2].close()
    for _, _, writer in (second, third, again):
        writer.close()
    await front.front.close()


async def test_a_connection_without_calls_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    front = await listening(monkeypatch, max_connection_idle_ms=200)
    _, reader, writer = await dial(front)
    async with asyncio.timeout(10):
        await reader.read(-1)
    writer.close()
    await front.front.close()


async def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    front = await listening(monkeypatch, server_handshake_timeout_ms=200)
    _, reader, writer = await dial(front, b"")
    async with asyncio.timeout(10):
        await reader.read(-1)
    writer.close()
    await front.front.close()


async def test_so_many_calls_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CALLS_PER_ADDRESS_MAX", 1)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        api = Api(channel, TENANT_KEY)
        watch = api.locks("Watch", pb.WatchRequest(name="a"))
        await watch.read()
        answer = await refused(api.locks("Get", pb.GetRequest(name="a")))
        assert (answer.status, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        assert answer.details["RetryInfo"].retry_delay.seconds == 1
        watch.cancel()
        async with asyncio.timeout(10):
            while not await is_answered(api):
                pass
    await front.front.close()


async def is_answered(api: Api) -> bool:
    try:
        await api.locks("Get", pb.GetRequest(name="a"))
    except grpc.aio.AioRpcError:
        return False
    return True
