"""One connection from a server to a server, kept up: dial, say HELLO, be welcomed, watch; and again when it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec

from holdfast.wire.complaints import Complaints
from holdfast.wire.errors import BadMessage, HoldfastError
from holdfast.wire.frames import encode
from holdfast.wire.limits import LINK_DIAL_S, LINK_RETRY_S_MAX, LINK_RETRY_S_MIN
from holdfast.wire.messages import Hello, Msg, Welcome, decode_refusal, decode_welcome
from holdfast.wire.stream import Connection
from holdfast.wire.tls import LinkTls


async def open_link(connection: Callable[[], Connection], address: str, tls: LinkTls | None) -> Connection:
    """Connect to a server, and with TLS find that it is the one meant. Raises ``OSError``, ``ValueError``."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    if tls is None:
        return (await loop.create_connection(connection, host, int(port)))[1]
    return (await loop.create_connection(connection, host, int(port), ssl=tls.context, server_hostname=tls.name))[1]


class Dialer:
    """Cancel :meth:`run` to end it.

    ``on_welcome`` may raise a :class:`HoldfastError` when it is the wrong one that answers. ``on_trouble`` hears why
    there is no connection, of each reason once in ``LINK_COMPLAINT_S``; a peer that closes in order is no trouble.
    ``tls`` is asked at each try; None dials in the clear.
    """

    def __init__(
        self,
        address: Callable[[], str],
        hello: Hello,
        *,
        tls: Callable[[], LinkTls | None],
        on_welcome: Callable[[Connection, Welcome], None],
        on_message: Callable[[Connection, int, int, int, bytes], None],
        on_closed: Callable[[Connection], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._address = address
        self._tls = tls
        self._hello = encode(hello)
        self._on_welcome = on_welcome
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_trouble = on_trouble
        self._welcomed = False
        """Whether the connection of this turn was."""
        self._complaints = Complaints()

    async def run(self) -> None:
        pause_s = LINK_RETRY_S_MIN
        while True:
            self._welcomed = False
            address = self._address()
            try:
                trouble = await self._dial(address)
            except (OSError, ValueError, OverflowError) as error:
                # Also an address that is none: it may be mended in the meta group, so this goes on trying.
                trouble = error
            if trouble is not None:
                self._complain(address, trouble)
            if self._welcomed:
                # Only now: a peer that accepts and then refuses is not to be asked thirty times a second.
                pause_s = LINK_RETRY_S_MIN
            # Jitter, so that those who lost each other together do not come back in step.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
            pause_s = min(2 * pause_s, LINK_RETRY_S_MAX)

    async def _dial(self, address: str) -> Exception | None:
        """Connect and stay until the connection ends; returns what ended it."""
        loop = asyncio.get_running_loop()
        greeted = asyncio.Event()
        ended: asyncio.Future[Exception | None] = loop.create_future()

        def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
            if body is None:
                return
            try:
                if not greeted.is_set():
                    self._greeting(connection, kind, body, greeted)
                elif kind == Msg.PING:
                    connection.send(Msg.PONG, 0, request, b"")
                else:
                    self._on_message(connection, kind, group, request, body)
            except msgspec.DecodeError as error:
                connection.abort(BadMessage(f"it sent what is no message: {error}"))
            except HoldfastError as error:
                connection.abort(error)

        def on_closed(connection: Connection, error: Exception | None) -> None:
            if error is None and not self._welcomed:
                error = ConnectionResetError("it closed the connection before WELCOME")
            greeted.set()
            if not ended.done():
                ended.set_result(error)
            self._on_closed(connection)

        connection: Connection | None = None
        try:
            async with asyncio.timeout(LINK_DIAL_S):
                connection = await open_link(lambda: Connection(on_message, on_closed), address, self._tls())
                connection.send(Msg.HELLO, 0, 0, self._hello)
                await greeted.wait()
            return await ended
        finally:
            if connection is not None:
                connection.abort()

    def _greeting(self, connection: Connection, kind: int, body: bytes, greeted: asyncio.Event) -> None:
        if kind == Msg.REFUSED:
            raise decode_refusal(body).error()
        if kind == Msg.WELCOME:
            self._on_welcome(connection, decode_welcome(body))
            # At once, not when the task gets its turn: what follows may come in the same read.
            self._welcomed = True
            greeted.set()
            connection.watch()

    def _complain(self, address: str, trouble: Exception) -> None:
        reason = (type(trouble), getattr(trouble, "errno", None))
        if self._complaints.due(reason):
            self._on_trouble(f"{address}: {str(trouble) or f'no WELCOME within {LINK_DIAL_S:g} s'}")
