"""The stream: any cutting of the bytes gives the same messages; what cannot be ends it."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.errors import BadMessage, TooLarge
from holdfast.wire.limits import MESSAGE_BYTES_MAX
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
