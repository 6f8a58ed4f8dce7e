"""HTTP written and read by hand, for a library would cost more than the router does."""

from __future__ import annotations

import asyncio
from typing import Any


class HttpConnection(asyncio.Protocol):
    """One request at a time; answers have a length."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises what broke the connection before it came."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received = b""
        assert self._answer is not None, "nothing is sent before it is asked for"
        if not self._answer.done():  # nobody waits any more when the run is over
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the server hung up"))


def head_of(host: str, key: str) -> str:
    """Header fields of a request with a JSON body, but its length."""
    return f"Host: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"


def post(path: str, head: str, body: str) -> bytes:
    """The whole request. ``body``: ASCII."""
    return f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
