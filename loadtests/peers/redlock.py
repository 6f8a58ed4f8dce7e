"""Redlock over five unreplicated Redis in memory (``redis-server``), with pottery."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from .peer import Kind, Peer, Target
from .redis_alone import redis_server, redis_version, serves
from .servers import free_ports

MASTERS = 5


class Redlock(Peer):
    name = "redlock"
    title = "Redlock over 5 Redis"
    kinds = (Kind("pottery", "pottery_redlock", needs=("pottery",), workers_max=64, library="pottery"),)
    needs: ClassVar = {"redis-server": "redis-server"}

    def start(self) -> None:
        self._ports = free_ports(MASTERS)
        self.servers = [redis_server(self, port, ["--appendonly", "no"]) for port in self._ports]
        for server in self.servers:
            server.start()
        self.await_serving()

    def await_serving(self) -> None:
        for server, port in zip(self.servers, self._ports, strict=True):
            server.await_that(partial(serves, port))

    def target(self, kind: Kind) -> Target:
        return {"ports": self._ports}

    def version(self) -> str:
        return redis_version(self._ports[0])
