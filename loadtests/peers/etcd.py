"""etcd, three members (``etcd-server``), as it comes: every write synced, heartbeats 100 ms, elections 1,000 ms."""

from __future__ import annotations

import json
import shutil
import urllib.request
from functools import partial
from typing import Any, ClassVar

from .peer import Fault, Kind, Peer, PeerFailed, Target
from .servers import Server, free_ports

MEMBERS = 3
CALL_TIMEOUT_S = 30.0
FAIL_OVER_CALL_TIMEOUT_S = 0.2
"""So that a gap is known to a fifth of a second when a call was sent into it."""
NEEDS = ("grpc", "grpc_tools")
TRANSACTION = Kind("transaction", "etcd_transaction", needs=NEEDS, waits=False, library="grpcio")
LOCK_SERVICE = Kind("lock service", "etcd_lock_service", needs=NEEDS, workers_max=256, library="grpcio")


class Etcd(Peer):
    name = "etcd"
    title = "etcd, 3 members"
    kinds = (TRANSACTION, LOCK_SERVICE)
    needs: ClassVar = {"etcd": "etcd-server"}
    fails_over = Kind("transaction, any member", "etcd_transaction", needs=NEEDS, waits=False)

    def start(self) -> None:
        ports = free_ports(2 * MEMBERS)
        self._clients, links = ports[:MEMBERS], ports[MEMBERS:]
        members = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(links))
        self.servers = [self._member(number, self._clients[number], links[number], members) for number in range(3)]
        for server in self.servers:
            server.start()
        self.await_serving()

    def _member(self, number: int, client: int, link: int, members: str) -> Server:
        data = self.directory / f"m{number}"
        command = [shutil.which("etcd") or "etcd", "--name", f"m{number}", "--data-dir", str(data)]
        for option, port in (("client", client), ("peer", link)):
            url = f"http://127.0.0.1:{port}"
            advertise = "--advertise-client-urls" if option == "client" else "--initial-advertise-peer-urls"
            command += [f"--listen-{option}-urls", url, advertise, url]
        command += ["--initial-cluster", members, "--initial-cluster-state", "new"]
        command += ["--logger", "zap", "--log-level", "error"]
        return Server(command, self.directory / f"m{number}.log", self.guardian)

    def await_serving(self) -> None:
        for server, port in zip(self.servers, self._clients, strict=True):
            server.await_that(partial(_knows_leader, port))

    def target(self, kind: Kind) -> Target:
        """The leader itself, which spares a hop; while leaders are hurt, a follower first, which is not."""
        leader = self._leader()
        if kind is not self.fails_over:
            return {"ports": [self._clients[leader]], "call_timeout_s": CALL_TIMEOUT_S}
        ports = [port for number, port in enumerate(self._clients) if number != leader]
        return {"ports": ports, "call_timeout_s": FAIL_OVER_CALL_TIMEOUT_S}

    def hurt_leader(self, number: int, fault: Fault) -> None:
        self.servers[self._leader()].hurt(fault)

    def version(self) -> str:
        return str(_status(self._clients[0])["version"])

    def _leader(self) -> int:
        for number, port in enumerate(self._clients):
            if self.servers[number].running():
                status = _status(port)
                if status["leader"] == status["header"]["member_id"]:
                    return number
        raise PeerFailed("etcd has no leader")


def _knows_leader(port: int) -> bool:
    return bool(_status(port).get("leader", "0") != "0")


def _status(port: int) -> dict[str, Any]:
    """Of one member. Raises OSError."""
    url = f"http://127.0.0.1:{port}/v3/maintenance/status"
    with urllib.request.urlopen(url, data=b"{}", timeout=2) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
