"""Accepted connections: their TLS first, where there is any, then the stream.

With TLS connections are accepted one by one, not by the event loop's server, so that each gets the certificates that
are in force when it comes, and so that one which fails its handshake can be told of.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Final

from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, TLS_HANDSHAKE_S

BACKLOG: Final = 1024
RETRY_S: Final = 0.2
"""Pause when the system has no more descriptors."""

log = logging.getLogger("holdfast.listener")


class Acceptor:
    """A listening address. ``tls`` gives the context for the next connection; None: there is no TLS.

    ``on_failed(address, why)`` hears of each handshake that failed, but of no caller that just went away.
    """

    def __init__(
        self,
        connection: Callable[[], asyncio.Protocol],
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        on_failed: Callable[[str, str], None],
    ) -> None:
        self._connection = connection
        self._tls = tls
        self._on_failed = on_failed
        self._handshakes = Crowd(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX)
        self._server: asyncio.Server | None = None
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Returns the address; raises ``OSError`` when it cannot be had, ``UnicodeError`` for an impossible host."""
        loop = asyncio.get_running_loop()
        if self._tls is None:
            self._server = await loop.create_server(self._connection, host, port, backlog=BACKLOG)
            name = self._server.sockets[0].getsockname()
        else:
            self._sockets = await _listening_sockets(host, port)
            for each in self._sockets:
                self._spawn(self._accept(each, self._tls))
            name = self._sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def _accept(self, listening: socket.socket, tls: Callable[[], ssl.SSLContext]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except ConnectionError:
                continue  # it came and went
            except OSError as error:
                log.error("cannot accept connections", extra={"why": str(error)})
                await asyncio.sleep(RETRY_S)
                continue
            if self._handshakes.enter(address[0]):
                self._spawn(self._secure(accepted, address[0], tls()))
            else:
                accepted.close()
                self._on_failed(address[0], "too many TLS handshakes are under way")

    async def _secure(self, accepted: socket.socket, address: str, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.connect_accepted_socket(
                self._connection, accepted, ssl=context, ssl_handshake_timeout=TLS_HANDSHAKE_S
            )
        except (ConnectionResetError, BrokenPipeError):
            pass  # a caller that left, or a look whether the port is open
        except OSError as error:
            self._on_failed(address, f"TLS: {getattr(error, 'verify_message', '') or error}")
        finally:
            self._handshakes.leave(address)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="accept")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Accept no more; what was accepted goes on."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for each in self._sockets:
            each.close()
        self._sockets = []


async def _listening_sockets(host: str, port: int) -> list[socket.socket]:
    """One for each address that ``host`` stands for."""
    places = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(places):
            each = socket.socket(family, kind, protocol)
            found.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(place)
            each.listen(BACKLOG)
            each.setblocking(False)
    except BaseException:
        for each in found:
            each.close()
        raise
    return found
