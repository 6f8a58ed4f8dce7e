"""uvicorn inside the router's own loop: it listens where it is told, and leaves signals to the router."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from holdfast.wire.tls import Certificates

from ..operations import Operations
from .application import Application

HEADER_BYTES_MAX: Final = 16 << 10
FIRST_REQUEST_S: Final = 10.0
"""Within which a connection has to have sent the head of its first request."""
IDLE_S: Final = 75
FAREWELL_S: Final = 2
BACKLOG: Final = 1024


class _Protocol(H11Protocol):
    """uvicorn waits for ever for the first request of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(FIRST_REQUEST_S, self._expect_request)

    def _expect_request(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.close()


def _following(certificates: Certificates) -> ssl.SSLContext:
    """uvicorn keeps the context it is given: each handshake takes the certificate that is in force then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    # Of the context that the handshake began with, whatever it goes on with.
    context.verify_mode = certificates.listening.verify_mode

    def take(connection: ssl.SSLObject, name: str | None, asked: ssl.SSLContext) -> None:
        connection.context = certificates.listening

    context.sni_callback = take
    return context


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpFront:
    """``tls``: whose certificate is shown, as it is at the time."""

    def __init__(
        self,
        operations: Operations,
        *,
        ready: Callable[[], bool],
        metrics: Callable[[], bytes],
        tls: Certificates | None = None,
        cors_origins: Iterable[str] = (),
    ) -> None:
        self._application = Application(operations, ready=ready, metrics=metrics, cors_origins=cors_origins)
        self.key_gone = self._application.key_gone
        settings: dict[str, Any] = {
            "http": _Protocol, "loop": "none", "lifespan": "off", "log_config": None, "access_log": False, "ws": "none",
            "server_header": False, "proxy_headers": False, "timeout_keep_alive": IDLE_S, "backlog": BACKLOG,
            "timeout_graceful_shutdown": FAREWELL_S, "h11_max_incomplete_event_size": HEADER_BYTES_MAX,
        }  # fmt: skip
        config = uvicorn.Config(self._application.asgi, **settings)
        config.load()
        config.ssl = _following(tls) if tls is not None else None
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self.address = ""

    async def listen(self, host: str, port: int) -> None:
        """Returns when it listens. Raises ``OSError`` when the port is taken."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        name = listener.getsockname()
        self.address = f"{name[0]}:{name[1]}"
        self._task = asyncio.create_task(self._server.serve([listener]), name="http")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        """No new requests; those under way have ``FAREWELL_S``."""
        self._application.close()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
