"""The asyncio side of a client: one connection at a time to one of its routers, and one timer."""

from __future__ import annotations

import asyncio
import os
import ssl
import weakref
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final

import msgspec

from holdfast.address import Address
from holdfast.clock import boottime_ms
from holdfast.core.client import ClientCore
from holdfast.errors import (
    BadMessage,
    Forbidden,
    HoldfastError,
    Throttled,
    Unauthenticated,
    Unavailable,
    VersionMismatch,
)
from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role, decode_refusal, decode_welcome
from holdfast.wire.stream import Connection
from holdfast.wire.tls import CA_VARIABLE, client_context
from holdfast.wire.turn import TurnEnd, turn_end

DIAL_S: Final = 2.0
"""Longest try of one router before the next has its turn."""
RETRY_S: Final = 0.02
RETRY_S_MAX: Final = 1.0
RETRY_REFUSED_S: Final = 10.0
"""Pause when a key is wrong: it may be right again one day, and to show it often would keep others of the same address
from being heard."""
FAREWELL_S: Final = 1.0
"""How long closing waits for the service to take back what is held."""

_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """Drives a :class:`ClientCore`. All methods belong to the event loop that opened it."""

    def __init__(
        self,
        address: Address,
        api_key: str,
        timeout_s: float,
        tls: ssl.SSLContext | None,
        *,
        clock_ms: Callable[[], float] = boottime_ms,
        rng: Random | None = None,
    ) -> None:
        self._hosts = list(address.hosts)
        self._key = api_key
        self._tls = (tls or client_context()) if address.tls else None
        self._timeout_s = timeout_s
        self._clock_ms = clock_ms
        self.rng = rng or SystemRandom()
        """Jitter, but session ids too: nobody may guess another's."""
        self.core = ClientCore(self, clock_ms, timeout_s * 1000, self.rng)
        self.loop: asyncio.AbstractEventLoop
        self._turn_end: TurnEnd
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None]
        self._broken: asyncio.Future[None]
        self._greeted: asyncio.Future[None] | None = None
        self._forked = False
        _links.add(self)

    # Life.

    async def open(self) -> None:
        """Connect to any of the routers. Raises :class:`Unavailable` when none answers in time."""
        if self._task is not None:
            return
        self.core.check_open()
        self.loop = asyncio.get_running_loop()
        self._turn_end = turn_end()
        self._ready = self.loop.create_future()
        self._task = self.loop.create_task(self._run(), name="holdfast connection")
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ready
        except TimeoutError:
            await self.close()
            raise Unavailable(f"no router answered within {self._timeout_s:g} s: {self.core.trouble}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Give back what is held, as far as the service can be told quickly, and disconnect."""
        if self._forked or self.core.closed:
            self.core.forked()
            return
        try:
            async with asyncio.timeout(min(FAREWELL_S, self._timeout_s)):
                if self.core.connected:
                    self.core.let_go()
                    self._flush()
                    while self.core.connected and self.core.busy:  # noqa: ASYNC110 - once, at the end of a client's life
                        await asyncio.sleep(0.001)
                self._end_core()
                if self._connection is not None:
                    self._connection.close()
                    # Not at once: TLS tells the other side, and hears its answer.
                    await asyncio.shield(self._broken)
        except TimeoutError:
            pass  # the leases run out by themselves
        finally:
            self._end_core()
            if self._connection is not None:
                self._connection.abort()
            if self._task is not None:
                self._task.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _end_core(self) -> None:
        self.core.close()
        if self._timer is not None:
            self._timer.cancel()

    def forked(self) -> None:
        self._forked = True
        self.core.forked()

    # Driver of the core.

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        assert self._connection is not None
        self._connection.send(kind, group, request, body)

    def flush_soon(self) -> None:
        self._turn_end.put_off(self._flush)

    def _flush(self) -> None:
        self.core.flush()
        if self._connection is not None:
            self._connection.flush()

    def wake(self, due_ms: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(max(due_ms - self._clock_ms(), 0.0) / 1000, self._advance)

    def _advance(self) -> None:
        self._timer = None
        self.core.advance()

    def drop(self, why: str) -> None:
        if self._connection is not None:
            self._connection.abort(Unavailable(why))

    # Connecting.

    async def _run(self) -> None:
        """Stay connected until closed: every router in turn, with pauses that grow while none answers."""
        self.rng.shuffle(self._hosts)
        # Should the caller's patience end with that of the first try.
        self.core.trouble = "{}:{}: {}".format(*self._hosts[0], _why(TimeoutError(), self._tls is not None))
        failures = 0
        while True:
            for host, port in list(self._hosts):
                pause_s = 0.0
                try:
                    await self._dial(host, port)
                except (Unauthenticated, Forbidden, VersionMismatch) as error:
                    self._refused_for_good(error)
                    pause_s = RETRY_REFUSED_S
                except (OSError, TimeoutError, HoldfastError, UnicodeError) as error:
                    if isinstance(error, Throttled):
                        pause_s = min(error.retry_after_ms / 1000, RETRY_REFUSED_S)
                    self.core.trouble = f"{host}:{port}: {_why(error, self._tls is not None)}"
                else:
                    failures = 0
                    await self._broken
                failures += 1
                growing_s = min(RETRY_S * 2 ** min(failures, 10), RETRY_S_MAX)
                await asyncio.sleep(pause_s + growing_s * self.rng.random())

    def _refused_for_good(self, error: HoldfastError) -> None:
        self.core.trouble = str(error)
        if not self._ready.done():
            self._ready.set_exception(error)

    async def _dial(self, host: str, port: int) -> None:
        """Connect and be greeted."""
        self._broken = self.loop.create_future()
        greeted = self._greeted = self.loop.create_future()
        async with asyncio.timeout(min(DIAL_S, self._timeout_s)):
            _, connection = await self.loop.create_connection(
                lambda: Connection(self._message, self._closed), host, port, ssl=self._tls
            )
            self._connection = connection
            if connection.closed:
                raise Unavailable("the router closed the connection at once")
            hello = Hello(PROTOCOL_VERSION, Role.CLIENT, key=self._key, agent="holdfast-python")
            connection.send(Msg.HELLO, 0, 1, encode(hello))
            try:
                await greeted
            except BaseException:
                connection.abort()
                raise

    def _message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        if connection is not self._connection or body is None:
            return
        try:
            if self._greeted is not None:
                self._greeting(kind, body)
            else:
                self.core.message(kind, group, request, body)
                if kind == Msg.TABLE and not self._ready.done():
                    self._ready.set_result(None)
        except (msgspec.DecodeError, ValueError) as error:
            connection.abort(BadMessage(f"the router sent what cannot be read: {error}"))

    def _greeting(self, kind: int, body: bytes) -> None:
        greeted = self._greeted
        assert greeted is not None
        if greeted.done():
            return
        if kind == Msg.WELCOME:
            # At once, not when the task gets its turn: what follows may come in the same read.
            self._greeted = None
            welcome = decode_welcome(body)
            self.core.start(welcome.tenant, welcome.seal, welcome.role, welcome.prefix)
            greeted.set_result(None)
        elif kind == Msg.REFUSED:
            greeted.set_exception(decode_refusal(body).error())

    def _closed(self, connection: Connection, error: Exception | None) -> None:
        if connection is not self._connection:
            return
        why = str(error) if error is not None else "the router closed the connection"
        if self._greeted is not None and not self._greeted.done():
            if self._tls is None and not isinstance(error, HoldfastError):
                # So does a router with TLS, which cannot read what a client without it says, nor say so.
                why += " before it said anything (if it is run with TLS, the URL begins with holdfasts://)"
            self._greeted.set_exception(Unavailable(why))
        self._connection = None
        if self.core.connected:
            self.core.stop(f"{connection.peer}: {why}")
        if not self._broken.done():
            self._broken.set_result(None)


def _why(error: Exception, tls: bool) -> str:
    """Why there is no connection, in words that name TLS where that is the cause."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"TLS: the router's certificate cannot be verified: {error.verify_message} "
            f"(name the file of its authority in {CA_VARIABLE}, or pass tls=, an SSLContext that trusts it)"
        )
    # One that does not speak TLS may also just hang up, even before what it says about it is read.
    hung_up = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
    if isinstance(error, ssl.SSLError) or (tls and hung_up):
        what = getattr(error, "reason", None) or getattr(error, "strerror", None) or "the router closed the connection"
        return f"TLS: {what} (if the router is run without TLS, the URL begins with holdfast://)"
    return str(error) or f"no WELCOME in time{', with TLS' if tls else ''}"


def _after_fork() -> None:
    """A child holds nothing of its parent's, and never speaks on its parent's connections."""
    for link in list(_links):
        link.forked()


os.register_at_fork(after_in_child=_after_fork)
