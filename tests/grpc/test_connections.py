"""Connections and calls of gRPC are bounded, and silent ones end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from holdfast.v1 import locks_pb2 as pb
from holdfast.v1.types_pb2 import Grant
from holdfast.wire.limits import CONNECTIONS_MAX
from holdfast_router.grpc import calls, server, standard
from holdfast_router.operations.presence import RESERVE_PART
from holdfast_router.operations.requests import (
    Acquire,
    Batch,
    Check,
    CreateSession,
    EndSession,
    Get,
    KeepSession,
    Release,
    Renew,
    Watch,
)
from holdfast_router.operations.turnstile import is_exempt
from tests.grpc.calling import PATIENCE_S, Api, refused
from tests.grpc.test_front import Front
from tests.tenants import OPERATOR_KEY, TENANT_KEY, key_of, key_text, meta_of, tenant_of

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


async def test_a_connection_of_some_age_takes_no_new_calls_and_those_under_way_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dict(server._OPTIONS)["grpc.max_connection_age_ms"] == 3_600_000, "as docs/grpc.md has it"
    front = await listening(monkeypatch, max_connection_age_ms=300)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        watch = api_over(channel).locks("Watch", pb.WatchRequest(name="a"))
        await watch.read()
        async with asyncio.timeout(10):
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        assert await is_answered(api_over(channel)), "over another connection"
        assert not watch.done()
        watch.cancel()
    await front.front.close()


class Wire:
    """Between a caller and the front, until it is cut: then nothing passes, and neither end is told."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._passing: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, int(self._port))
        self._ends += [writer, back]
        self._passing += [asyncio.create_task(self._pass(*ends)) for ends in ((reader, back), (there, writer))]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    def cut(self) -> None:
        for task in self._passing:
            task.cancel()

    def close(self) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()


async def test_a_caller_that_vanished_is_noticed_and_what_it_waits_for_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert server.PING_AFTER_S + server.PING_TIMEOUT_S <= 30, "as docs/grpc.md has it"
    assert dict(server._OPTIONS)["grpc.http2.ping_timeout_ms"] == server.PING_TIMEOUT_S * 1000
    patience = {"keepalive_timeout_ms": 100, "http2.ping_timeout_ms": 100}
    front = await listening(monkeypatch, keepalive_time_ms=200, **patience)
    waits, taken_back = asyncio.Event(), asyncio.Event()

    async def acquire(*_: object) -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            taken_back.set()

    monkeypatch.setattr(front.failing, "acquire", acquire)
    wire = Wire(front.front.address)
    async with grpc.aio.insecure_channel(await wire.start()) as channel, asyncio.timeout(10):
        asking = asyncio.ensure_future(api_over(channel).acquire("a"))
        await waits.wait()
        wire.cut()
        await taken_back.wait()
        asking.cancel()
    wire.close()
    await front.front.close()


def api_over(channel: Any) -> Api:
    return Api(channel, TENANT_KEY)


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


async def test_so_many_calls_in_all_and_one_tenant_takes_no_more_than_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "CALLS_MAX", RESERVE_PART)
    front = await listening(monkeypatch)
    operator, first = tenant_of(0, key_of(OPERATOR_KEY)), tenant_of(1, key_of(TENANT_KEY))
    keys = [TENANT_KEY, *(key_text(name) for name in ("second", "third", "fourth"))]
    others = [tenant_of(number, key_of(key)) for number, key in enumerate(keys[1:], start=2)]
    front.hears(meta_of(operator, first, *others, version=2))
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        for key, many in zip(keys, (4, 2, 1, 0), strict=True):
            for _ in range(many):
                await Api(channel, key).locks("Watch", pb.WatchRequest(name="a")).read()
            answer = await refused(Api(channel, key).locks("Get", pb.GetRequest(name="a")))
            assert (answer.status, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
            assert answer.details["RetryInfo"].retry_delay.seconds == 1
        # One place of the eight is kept for what holders need.
        kept = asyncio.ensure_future(Api(channel, keys[3]).release(Grant(lock_id="hf1_a")))
        async with asyncio.timeout(10):
            while not front.failing.callers:
                await asyncio.sleep(0.001)
        assert (await refused(Api(channel, keys[0]).release(Grant(lock_id="hf1_a")))).reason == "OVERLOADED"
        kept.cancel()
    await front.front.close()


async def test_holders_let_go_when_their_address_has_too_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CALLS_PER_ADDRESS_MAX", 1)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        api = Api(channel, TENANT_KEY)
        await api.locks("Watch", pb.WatchRequest(name="a")).read()
        assert not await is_answered(api)
        releasing = asyncio.ensure_future(api.release(Grant(lock_id="hf1_a")))
        async with asyncio.timeout(10):
            while not front.failing.callers:
                await asyncio.sleep(0.001)
        releasing.cancel()
    await front.front.close()


def test_the_exempt_rpcs_are_those_that_are_exempt_wherever_they_come_from() -> None:
    types = {"Acquire": Acquire, "Release": Release, "Renew": Renew, "Get": Get, "Check": Check, "Batch": Batch}
    types |= {"Create": CreateSession, "KeepAlive": KeepSession, "End": EndSession, "Watch": Watch}
    assert {name for name, kind in types.items() if is_exempt(kind)} == set(calls.EXEMPT)


async def is_answered(api: Api) -> bool:
    try:
        await api.locks("Get", pb.GetRequest(name="a"))
    except grpc.aio.AioRpcError:
        return False
    return True


# Strangers.


def opened(channel: Any, path: str) -> Any:
    """A call of which the head has come and no message."""
    return channel.stream_stream(f"/{path}", bytes, bytes)(timeout=PATIENCE_S)


def health_watch(channel: Any) -> Any:
    ask, answer = HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    return channel.unary_stream("/grpc.health.v1.Health/Watch", ask, answer)(HealthCheckRequest(), timeout=PATIENCE_S)


async def watched(channel: Any) -> HealthCheckResponse:
    return cast(HealthCheckResponse, await health_watch(channel).read())


async def test_watches_of_the_health_take_no_place_of_a_callers_and_have_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CALLS_MAX", 4)
    monkeypatch.setattr(standard, "STANDARD_PER_ADDRESS_MAX", 3)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        watches = [health_watch(channel) for _ in range(3)]
        for watch in watches:
            assert (await watch.read()).status == HealthCheckResponse.SERVING
        answer = await refused(watched(channel))
        assert (answer.status, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        assert answer.details["RetryInfo"].retry_delay.seconds == 1
        assert await is_answered(Api(channel, TENANT_KEY))
        watches[0].cancel()
        async with asyncio.timeout(10):
            while (await refused_or_none(watched(channel))) is not None:
                pass
    await front.front.close()


async def test_so_many_calls_of_the_standard_services_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard, "STANDARD_MAX", 1)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        watch = health_watch(channel)
        await watch.read()
        assert (await refused(watched(channel))).reason == "OVERLOADED"
        watch.cancel()
    await front.front.close()


async def test_who_opens_calls_and_says_nothing_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the method: also one that takes a single message is counted before that has come."""
    monkeypatch.setattr(server, "CALLS_MAX", 4)
    monkeypatch.setattr(calls, "STRANGERS_MAX", 2)
    monkeypatch.setattr(server, "STRANGERS_MAX", 2)
    monkeypatch.setattr(standard, "STANDARD_MAX", 2)
    monkeypatch.setattr(server, "STANDARD_MAX", 2)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        paths = ["holdfast.v1.LockService/Get", "grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"]
        silent = [opened(channel, path) for path in paths for _ in range(10)]
        assert {await call.code() for call in silent[:10]} == {grpc.StatusCode.UNAUTHENTICATED}
        codes = [await call.code() for call in silent[10:]]
        assert set(codes) == {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT}
        assert codes.count(grpc.StatusCode.INVALID_ARGUMENT) == 2
        assert await is_answered(Api(channel, TENANT_KEY))
    await front.front.close()


async def test_a_caller_with_a_key_is_told_what_is_missing_when_no_message_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        for method in ("Get", "Watch"):
            metadata = api_over(channel).metadata
            call = channel.stream_stream(f"/holdfast.v1.LockService/{method}", bytes, bytes)(
                metadata=metadata, timeout=PATIENCE_S
            )
            await call.done_writing()
            assert (await call.code(), "one message" in await call.details()) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                True,
            )
    await front.front.close()


async def test_a_caller_with_a_key_that_never_sends_its_message_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MESSAGE_S", 0.1)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        for method in ("Get", "Watch"):
            path, metadata = f"/holdfast.v1.LockService/{method}", api_over(channel).metadata
            call = channel.stream_stream(path, bytes, bytes)(metadata=metadata, timeout=PATIENCE_S)
            assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "within 0.1 s" in await call.details()
    await front.front.close()


async def test_so_many_strangers_are_waited_for_and_others_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "STRANGERS_MAX", 1)
    monkeypatch.setattr(calls, "FIRST_MESSAGE_S", PATIENCE_S)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        strangers = [opened(channel, "holdfast.v1.LockService/Get") for _ in range(2)]
        codes = [asyncio.ensure_future(stranger.code()) for stranger in strangers]
        at_once, kept = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S / 2)
        assert ([each.result() for each in at_once], len(kept)) == ([grpc.StatusCode.UNAUTHENTICATED], 1)
        for stranger in strangers:
            await stranger.done_writing()
        assert [await code for code in kept] == [grpc.StatusCode.UNAUTHENTICATED]
    await front.front.close()


async def test_a_reflection_stream_that_asks_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard, "SILENT_S", 0.1)
    front = await listening(monkeypatch)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        call = opened(channel, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "open another stream" in await call.details()
    await front.front.close()


async def refused_or_none(call: Any) -> grpc.aio.AioRpcError | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None
