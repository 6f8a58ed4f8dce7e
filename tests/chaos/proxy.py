"""Links where no network can be made (:mod:`.network`): hosts are mere processes, and links go through here.

Every server listens where nobody looks for it and is reached through a port of the proxy, which asks the system whose
connection it is, and holds back what the link between the two does not let through. What TCP makes of lost packets is
imitated, not made: bytes come later, and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import psutil

from .network import HUB

T = TypeVar("T")

HOST_VARIABLE: Final = "CHAOS_HOST"
"""In the environment of a process on a host other than the hub."""
CHUNK_BYTES: Final = 8192
LOOK_S: Final = 0.01
RETRANSMISSION_S: Final = 0.2
"""What a lost packet costs at least, as on Linux."""


class Proxies:
    """Hosts 1 to ``count``, one server on each. All methods are those of ``Network``."""

    def __init__(self, count: int) -> None:
        self._hosts = range(1, count + 1)
        self._listen: dict[int, str] = {}
        self._reach: dict[int, str] = {}
        self._cut: set[tuple[int, int]] = set()
        self._bytes_per_s: dict[int, float] = {}
        self._free: dict[int, float] = {}
        """When a slow host has sent what it was given so far."""
        self._loss: dict[int, float] = {}
        self._chance = random.Random(0)
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    def make(self) -> None:
        self._thread.start()
        with contextlib.ExitStack() as taken:
            for host in self._hosts:
                free = taken.enter_context(socket.create_server(("127.0.0.1", 0)))
                self._listen[host] = f"127.0.0.1:{free.getsockname()[1]}"
                self._reach[host] = self._do(self._open(host))

    def unmake(self) -> None:
        if self._thread.is_alive():
            self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def listen(self, host: int) -> str:
        return self._listen[host]

    def reach(self, host: int) -> str:
        return self._reach[host]

    def prefix(self, host: int) -> list[str]:
        return [] if host == HUB else ["env", f"{HOST_VARIABLE}={host}"]

    def cut(self, source: int, target: int) -> None:
        self._now(lambda: self._cut.add((source, target)))

    def mend(self, source: int, target: int) -> None:
        self._now(lambda: self._cut.discard((source, target)))

    def slow(self, host: int, rate_kbit: int = 400) -> None:
        self._now(lambda: self._bytes_per_s.update({host: rate_kbit * 125.0}))

    def quicken(self, host: int) -> None:
        self._now(lambda: self._bytes_per_s.pop(host, None))

    def lose(self, host: int, percent: int) -> None:
        self._now(lambda: self._loss.update({host: percent / 100}))

    def keep(self, host: int) -> None:
        self._now(lambda: self._loss.pop(host, None))

    # In the thread.

    def _now(self, change: Callable[[], object]) -> None:
        async def do() -> None:
            change()

        self._do(do())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, host: int) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, host)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        self._cut.clear()
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(LOOK_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        writers = [writer]
        try:
            source = _host_behind(writer.get_extra_info("peername")[1])
            address, _, port = self._listen[target].rpartition(":")
            onward_reader, onward_writer = await asyncio.open_connection(address, int(port))
            writers.append(onward_writer)
            there = self._pump(reader, onward_writer, source, target)
            back = self._pump(onward_reader, writer, target, source)
            await asyncio.gather(there, back)
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens, or the links are unmade
        finally:
            for each in writers:
                each.transport.abort()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: int, target: int) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._pass(len(data), source, target)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the end of one side is told to the other below
        finally:
            while (source, target) in self._cut:
                await asyncio.sleep(LOOK_S)
            writer.close()

    async def _pass(self, size_bytes: int, source: int, target: int) -> None:
        """Until the link has let through so much."""
        rate = self._bytes_per_s.get(source)
        if rate is not None:
            now = self._loop.time()
            self._free[source] = max(self._free.get(source, 0.0), now) + size_bytes / rate
            await asyncio.sleep(self._free[source] - now)
        while self._chance.random() < self._loss.get(source, 0.0):
            await asyncio.sleep(RETRANSMISSION_S)
        while (source, target) in self._cut:
            await asyncio.sleep(LOOK_S)


def _host_behind(port: int) -> int:
    """Of the process that connected from this port; the hub if that cannot be told any more."""
    for connection in psutil.net_connections("tcp4"):
        if connection.laddr and connection.laddr.port == port and connection.pid is not None:
            with contextlib.suppress(psutil.Error):
                return int(psutil.Process(connection.pid).environ().get(HOST_VARIABLE, HUB))
    return HUB
