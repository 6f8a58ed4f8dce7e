"""Redis 7, one server and no replica (``redis-server``): all in memory, and with every write synced to the disk."""

from __future__ import annotations

import shutil
from typing import ClassVar

from .peer import Kind, Peer, Shape, Target
from .servers import Server, ask, free_ports

REDIS_PY = Kind("redis-py Lock", "redis_py", needs=("redis",), library="redis")
LEAN = Kind("lean C", "redis", shape=Shape.PROGRAM, clients_max=1 << 20, waits=False)


def redis_server(peer: Peer, port: int, persistence: list[str]) -> Server:
    """Not started. Nothing is ever dumped, and the log never rewritten, while it is measured."""
    directory = peer.directory / str(port)
    directory.mkdir()
    command = [shutil.which("redis-server") or "redis-server", "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--dir", str(directory), "--save", "", "--auto-aof-rewrite-percentage", "0", *persistence]
    return Server(command, directory / "log", peer.guardian)


def serves(port: int) -> bool:
    return ask(port, b"PING\r\n") == b"+PONG\r\n"


def redis_version(port: int) -> str:
    lines = ask(port, b"INFO server\r\n").decode().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith("redis_version:"))


class RedisInMemory(Peer):
    name = "redis"
    title = "Redis in memory"
    kinds = (LEAN, REDIS_PY)
    needs: ClassVar = {"redis-server": "redis-server"}
    persistence: ClassVar[list[str]] = ["--appendonly", "no"]

    def start(self) -> None:
        (self._port,) = free_ports(1)
        self.servers = [redis_server(self, self._port, self.persistence)]
        self.servers[0].start()
        self.await_serving()

    def await_serving(self) -> None:
        self.servers[0].await_that(lambda: serves(self._port))

    def target(self, kind: Kind) -> Target:
        return {"ports": [self._port]}

    def version(self) -> str:
        return redis_version(self._port)


class RedisOnDisk(RedisInMemory):
    name = "redis-aof"
    title = "Redis, appendfsync always"
    persistence: ClassVar = ["--appendonly", "yes", "--appendfsync", "always"]
