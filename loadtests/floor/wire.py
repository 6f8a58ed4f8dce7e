"""The floor's frames: a length, a number, a group, a body."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

import msgspec

ACQUIRE, RELEASE = 1, 2
DONE, HELD = 1, 2
_HEADER = struct.Struct("<IIB")


class Operations(msgspec.Struct, array_like=True, gc=False):
    """Columns of one section."""

    kinds: bytearray
    names: list[str]
    owners: list[int]
    ttls_ms: list[int]
    waits_ms: list[int]

    @classmethod
    def empty(cls) -> Operations:
        return cls(bytearray(), [], [], [], [])

    def add(self, kind: int, name: str, owner: int, ttl_ms: int, wait_ms: int = 0) -> None:
        self.kinds.append(kind)
        self.names.append(name)
        self.owners.append(owner)
        self.ttls_ms.append(ttl_ms)
        self.waits_ms.append(wait_ms)


class Outcomes(msgspec.Struct, array_like=True, gc=False):
    statuses: bytearray
    tokens: list[int]


encode = msgspec.msgpack.Encoder().encode
decode_operations = msgspec.msgpack.Decoder(Operations).decode
decode_outcomes = msgspec.msgpack.Decoder(Outcomes).decode
decode_entry = msgspec.msgpack.Decoder(list[bytes]).decode

OnFrame = Callable[["Link", int, int, bytes], None]
"""The link it came by, its number, its group, its body."""


class Link(asyncio.Protocol):
    def __init__(self, on_frame: OnFrame) -> None:
        self._on_frame = on_frame
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start, size = 0, len(received)
        while size - start >= _HEADER.size:
            length, number, group = _HEADER.unpack_from(received, start)
            body = start + _HEADER.size
            if size - body < length:
                break
            start = body + length
            self._on_frame(self, number, group, bytes(memoryview(received)[body:start]))
        del received[:start]

    def send(self, number: int, group: int, body: bytes) -> None:
        """Nothing is sent to who has gone."""
        if not self._transport.is_closing():
            self._transport.write(_HEADER.pack(len(body), number, group) + body)

    def close(self) -> None:
        self._transport.close()


async def dial(port: int, on_frame: OnFrame) -> Link:
    """Tries until somebody listens: the floor's processes start in any order."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            _, link = await loop.create_connection(lambda: Link(on_frame), "127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            return link


async def serve(port: int, on_frame: OnFrame) -> None:
    """For ever."""
    server = await asyncio.get_running_loop().create_server(lambda: Link(on_frame), "127.0.0.1", port)
    await server.serve_forever()
