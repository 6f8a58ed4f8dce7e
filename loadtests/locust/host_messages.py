"""Between Locust's greenlets and the process that runs the SDK for them: length, then msgpack."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

HEAD: Final = struct.Struct(">I")
OPEN: Final = "connect"
CLOSE: Final = "close"


class Ask(msgspec.Struct, array_like=True, frozen=True):
    number: int
    caller: int
    """The user that asks: each is a client of its own, with a connection of its own."""
    verb: str
    arguments: dict[str, Any]


class Told(msgspec.Struct, array_like=True, frozen=True):
    number: int
    took_ms: float
    """Measured where the SDK runs; the way between the processes is not in it."""
    value: Any = None
    code: str = ""
    """Empty when it was done."""
    text: str = ""
    retry_after_ms: int = 0


_encode = msgspec.msgpack.Encoder().encode


def framed(message: Ask | Told) -> bytes:
    body = _encode(message)
    return HEAD.pack(len(body)) + body
