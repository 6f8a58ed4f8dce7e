"""uvicorn inside the router's own loop: it listens where it is told, and leaves signals to the router."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

import uvicorn

from holdfast.wire.accepting import Acceptor
from holdfast.wire.complaints import Complaints
from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX
from holdfast.wire.tls import Certificates

from ..operations import Operations
from .application import Application
from .connection import HttpConnection

IDLE_S: Final = 75
FAREWELL_S: Final = 2

log = logging.getLogger("holdfast.router")


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
            "http": HttpConnection, "interface": "asgi3", "loop": "none", "lifespan": "off", "log_config": None,
            "access_log": False, "ws": "none", "server_header": False, "proxy_headers": False,
            "timeout_keep_alive": IDLE_S, "timeout_graceful_shutdown": FAREWELL_S,
        }  # fmt: skip
        self._config = uvicorn.Config(self._application.asgi, **settings)
        self._config.load()
        self._server = _Server(self._config)
        self._crowd = Crowd(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX)
        self._complaints = Complaints()
        self._acceptor = Acceptor(
            self._connection, tls=(lambda: tls.listening) if tls is not None else None, on_failed=self._on_failed
        )
        self._task: asyncio.Task[None] | None = None
        self.address = ""

    def _connection(self) -> HttpConnection:
        return HttpConnection(self._crowd, config=self._config, server_state=self._server.server_state, app_state={})

    def _on_failed(self, address: str, why: str) -> None:
        if self._complaints.due(address):
            log.warning("refused a caller", extra={"address": address, "why": why})

    async def listen(self, host: str, port: int) -> None:
        """Returns when it listens. Raises ``OSError`` when the port is taken."""
        found = await self._acceptor.listen(host, port)
        self.address = f"{found[0]}:{found[1]}"
        # Connections are accepted as those of SDKs are; uvicorn serves them.
        self._task = asyncio.create_task(self._server.serve([]), name="http")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        """No new requests; those under way have ``FAREWELL_S``."""
        self._acceptor.close()
        self._application.close()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
