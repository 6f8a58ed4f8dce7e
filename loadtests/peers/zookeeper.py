"""ZooKeeper, three servers (``zookeeper``, ``default-jre-headless``): writes synced, ticks of 500 ms."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import ClassVar

from .peer import Fault, Kind, Peer, PeerFailed, Shape, Target
from .servers import Server, ask, free_ports

SERVERS = 3
JAR = "/usr/share/java/zookeeper.jar"
TICK_MS = 500
SESSIONS_MAX = 6
"""Of one process: two for each server."""
KAZOO_LOCK = Kind(
    "kazoo Lock",
    "kazoo_lock",
    needs=("kazoo",),
    shape=Shape.THREADS,
    clients_max=SESSIONS_MAX,
    workers_max=256,
    library="kazoo",
)
LEAN = Kind("lean C", "zookeeper", shape=Shape.PROGRAM, clients_max=SESSIONS_MAX, waits=False)


class ZooKeeper(Peer):
    name = "zookeeper"
    title = "ZooKeeper, 3 servers"
    kinds = (LEAN, KAZOO_LOCK)
    needs: ClassVar = {JAR: "zookeeper", "java": "default-jre-headless"}
    warm_up_s = 40.0  # until its compiler is done; measured cold it makes half as many cycles
    fails_over = replace(KAZOO_LOCK, name="kazoo Lock, at followers")

    def start(self) -> None:
        ports = free_ports(3 * SERVERS)
        self._clients = ports[:SERVERS]
        links = zip(ports[SERVERS : 2 * SERVERS], ports[2 * SERVERS :], strict=True)
        members = [f"server.{number}=127.0.0.1:{one}:{other}" for number, (one, other) in enumerate(links, 1)]
        self.servers = [self._server(number, members) for number in range(SERVERS)]
        for server in self.servers:
            server.start()
        self.await_serving()

    def _server(self, number: int, members: list[str]) -> Server:
        data = self.directory / f"s{number}"
        data.mkdir()
        (data / "myid").write_text(f"{number + 1}\n")
        lines = [f"dataDir={data}", f"clientPort={self._clients[number]}", "clientPortAddress=127.0.0.1"]
        lines += [f"tickTime={TICK_MS}", "initLimit=10", "syncLimit=5", "maxClientCnxns=0", "maxSessionTimeout=60000"]
        lines += ["admin.enableServer=false", "4lw.commands.whitelist=srvr", *members]
        configuration = data / "zoo.cfg"
        configuration.write_text("\n".join(lines) + "\n")
        command = [shutil.which("java") or "java", "-Xmx512m", "-cp", JAR, "-Dzookeeper.jmx.log4j.disable=true"]
        command += ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(configuration)]
        return Server(command, self.directory / f"s{number}.log", self.guardian)

    def await_serving(self) -> None:
        for server, port in zip(self.servers, self._clients, strict=True):
            server.await_that(partial(_is_in_a_mode, port))

    def target(self, kind: Kind) -> Target:
        """All servers; while leaders are hurt, the followers, which are not."""
        if kind is not self.fails_over:
            return {"ports": self._clients}
        leader = self._leader()
        return {"ports": [port for number, port in enumerate(self._clients) if number != leader]}

    def hurt_leader(self, number: int, fault: Fault) -> None:
        self.servers[self._leader()].hurt(fault)

    def _leader(self) -> int:
        for number, port in enumerate(self._clients):
            if _said(port).get("Mode") == "leader":
                return number
        raise PeerFailed("ZooKeeper has no leader")

    def version(self) -> str:
        return _said(self._clients[0])["Zookeeper version"].partition("-")[0]


def _is_in_a_mode(port: int) -> bool:
    return "Mode" in _said(port)


def _said(port: int) -> dict[str, str]:
    """What a server says of itself; empty while it serves nobody. Raises OSError."""
    lines = ask(port, b"srvr").decode(errors="replace").splitlines()
    return {key: value.strip() for key, found, value in (line.partition(":") for line in lines) if found}
