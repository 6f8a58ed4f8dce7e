"""The stream: any cutting of the bytes gives the same messages; what cannot be ends it."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire import stream
from holdfast.wire.errors import BadMessage, Code, HoldfastError, TooLarge
from holdfast.wire.limits import MESSAGE_BYTES_MAX
from holdfast.wire.messages import Msg, decode_refusal
from holdfast.wire.stream import HEADER_BYTES, Connection, Splitter, pack

messages = st.lists(
    st.tuples(st.integers(1, 63), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=60)), max_size=8
)


@given(messages, st.lists(st.integers(1, 40), max_size=40))
def test_any_cutting_gives_the_same_messages(sent: list[tuple[int, int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join(pack(*message) for message in sent)
    splitter, got, at = Splitter(), [], 0
    for cut in [*cuts, len(data) or 1]:
        got += list(splitter.feed(data[at : at + cut]))
        at += cut
    got += list(splitter.feed(data[at:]))
    assert got == sent


@given(messages, st.integers(1, 30), st.integers(0, 40))
def test_a_body_over_the_limit_is_skipped_and_the_stream_goes_on(
    sent: list[tuple[int, int, int, bytes]], cut: int, limit: int
) -> None:
    data = b"".join(pack(*message) for message in sent)
    splitter, got = Splitter(limit), []
    for at in range(0, len(data), cut):
        got += list(splitter.feed(data[at : at + cut]))
    assert got == [(k, g, r, body if len(body) <= limit else None) for k, g, r, body in sent]


@given(st.binary(min_size=HEADER_BYTES, max_size=200))
def test_random_bytes_end_in_messages_or_a_typed_error(data: bytes) -> None:
    try:
        list(Splitter(100).feed(data))
    except (BadMessage, TooLarge):
        pass


def test_a_header_that_cannot_be_ends_the_stream() -> None:
    with pytest.raises((BadMessage, TooLarge)):
        list(Splitter().feed(b"GET / HTTP/1.1\r\n"))
    with pytest.raises(BadMessage, match="another protocol"):
        list(Splitter().feed(struct.pack("<IBHI", 1, 99, 0, 0)))
    with pytest.raises(TooLarge):
        list(Splitter().feed(struct.pack("<IBHI", MESSAGE_BYTES_MAX + 1, 1, 0, 0)))
    assert list(Splitter().feed(struct.pack("<IBHI", MESSAGE_BYTES_MAX, 1, 0, 0))) == []


def test_an_unfinished_message_is_all_that_is_kept() -> None:
    splitter = Splitter(1000)
    list(splitter.feed(struct.pack("<IBHI", 10_000_000, 1, 0, 0)))
    for _ in range(9):
        list(splitter.feed(bytes(1_000_000)))
    assert len(splitter._buffer) == 0


def test_a_body_that_trickles_in_costs_no_copy_of_what_is_held() -> None:
    def seconds(held: int) -> float:
        splitter = Splitter()
        message = pack(4, 1, 1, bytes(held))
        assert list(splitter.feed(message[:-2000])) == []
        began = time.perf_counter()
        for at in range(len(message) - 2000, len(message) - 1):
            assert list(splitter.feed(message[at : at + 1])) == []
        took = time.perf_counter() - began
        assert list(splitter.feed(message[-1:])) == [(4, 1, 1, bytes(held))]
        return took

    assert min(seconds(2 << 20) for _ in range(3)) < 20 * min(seconds(4000) for _ in range(3))


async def pair() -> tuple[asyncio.Server, Connection, asyncio.Future[Connection], list[tuple[int, bytes | None]]]:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Connection] = loop.create_future()
    got: list[tuple[int, bytes | None]] = []
    server = await loop.create_server(
        lambda: Connection(
            lambda c, k, g, r, body: got.append((r, body)),
            lambda c, e: None,
            on_open=accepted.set_result,
            body_bytes_max=100,
        ),
        "127.0.0.1",
        0,
    )
    port = server.sockets[0].getsockname()[1]
    _, client = await loop.create_connection(lambda: Connection(lambda *a: None, lambda c, e: None), "127.0.0.1", port)
    return server, client, accepted, got


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_messages_cross_a_socket_in_order_and_large_ones_are_reported() -> None:
    server, client, _, got = await pair()
    for request in range(100):
        client.send(1, 0, request, bytes(request * 2))
    await until(lambda: len(got) == 100)
    assert got == [(n, bytes(n * 2) if n * 2 <= 100 else None) for n in range(100)]
    client.close()
    server.close()


async def test_closing_sends_what_is_queued_and_is_told_once() -> None:
    server, client, accepted, got = await pair()
    other = await accepted
    client.send(1, 0, 7, b"last")
    client.close()
    await until(lambda: other.closed)
    assert got == [(7, b"last")]
    client.abort()
    client.send(1, 0, 8, b"nobody hears this")
    server.close()


async def refusing(garbage: bytes) -> tuple[list[tuple[int, int, int, bytes | None]], Exception | None]:
    """What a server says to this, before it ends the connection; and what its owner is told."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()
    server = await loop.create_server(
        lambda: Connection(lambda *a: None, lambda c, e: ended.set_result(e)), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(garbage)
    said = list(Splitter().feed(await reader.read()))
    writer.close()
    server.close()
    return said, await ended


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Code.TOO_LARGE),
        (bytes(64), Code.BAD_MESSAGE),
        (struct.pack("<IBHI", MESSAGE_BYTES_MAX + 1, 1, 0, 0), Code.TOO_LARGE),
        (pack(Msg.PING, 0, 1, b"") + bytes(64), Code.BAD_MESSAGE),
    ],
)
async def test_a_stream_out_of_step_is_told_what_is_expected_and_ends(garbage: bytes, code: Code) -> None:
    ((kind, _, request, body),), error = await refusing(garbage)
    assert (kind, request) == (Msg.REFUSED, 0)
    refusal = decode_refusal(body or b"")
    assert refusal.code == code
    assert "holdfast/1" in refusal.message
    assert "HELLO" in refusal.message
    assert isinstance(error, HoldfastError)
    assert error.code == code


async def test_what_follows_in_the_same_read_is_not_dispatched_after_close() -> None:
    loop = asyncio.get_running_loop()
    got: list[int] = []

    def close_at_once(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        got.append(request)
        connection.send(1, 0, request, b"")
        connection.close()
        connection.send(1, 0, 99, b"too late")

    server = await loop.create_server(lambda: Connection(close_at_once, lambda c, e: None), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(b"".join(pack(1, 0, request, b"") for request in range(1, 4)))
    assert await reader.read() == pack(1, 0, 1, b"")
    assert got == [1]
    writer.close()
    server.close()


async def test_a_peer_that_does_not_read_keeps_no_closing_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLOSING_S", 0.05)
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Connection] = loop.create_future()
    ended: asyncio.Future[None] = loop.create_future()
    server = await loop.create_server(
        lambda: Connection(lambda *a: None, lambda c, e: ended.set_result(None), on_open=accepted.set_result),
        "127.0.0.1",
        0,
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], limit=1024)
    connection = await accepted
    connection.send(1, 0, 0, bytes(MESSAGE_BYTES_MAX))
    connection.close()
    async with asyncio.timeout(5):
        await ended
    writer.close()
    server.close()
    assert reader is not None


async def test_the_limit_of_a_body_can_change_between_two_messages_of_one_read() -> None:
    loop = asyncio.get_running_loop()
    got: list[int | None] = []

    def widen(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        got.append(None if body is None else len(body))
        connection.body_bytes_max = 20

    server = await loop.create_server(lambda: Connection(widen, lambda c, e: None, body_bytes_max=10), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(b"".join(pack(1, 0, 0, bytes(size)) for size in (11, 20, 21)))
    await until(lambda: len(got) == 3)
    assert got == [None, 20, None]
    writer.close()
    server.close()


async def test_a_peer_that_does_not_read_is_cut_off_before_memory_grows() -> None:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Connection] = loop.create_future()
    closed: asyncio.Future[Exception | None] = loop.create_future()
    server = await loop.create_server(
        lambda: Connection(
            lambda *a: None, lambda c, e: closed.set_result(e), on_open=accepted.set_result, unsent_bytes_max=1 << 20
        ),
        "127.0.0.1",
        0,
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], limit=1024)
    connection = await accepted
    for _ in range(200):
        connection.send(1, 0, 0, bytes(1 << 18))
        await asyncio.sleep(0)
        if connection.closed:
            break
    assert isinstance(await closed, TooLarge)
    writer.close()
    server.close()
    assert reader is not None
