"""The floor (`loadtests.floor`) as a peer: what the bare way of an operation costs in Python."""

from __future__ import annotations

import platform
import socket
import sys
from pathlib import Path

from .peer import Kind, Peer, Target
from .servers import Server, free_ports

NODES = 3
CHECKOUT = Path(__file__).parents[2]


class Floor(Peer):
    name = "floor"
    title = "The floor (no safety)"
    kinds = (Kind("pipeline", "floor_pipeline", waits=False),)

    def start(self) -> None:
        self._router, *nodes = free_ports(1 + NODES)
        leader, *followers = map(str, nodes)
        roles = [["node", port, str(self.directory)] for port in followers]
        roles.append(["node", leader, str(self.directory), *followers])
        roles.append(["router", str(self._router), leader])
        for number, (role, *arguments) in enumerate(roles):
            command = [sys.executable, "-m", f"loadtests.floor.{role}", *arguments]
            log = self.directory / f"{number}.log"
            self.servers.append(Server(command, log, self.guardian, directory=CHECKOUT))
            self.servers[-1].start()
        self.await_serving()

    def await_serving(self) -> None:
        # It listens once it has the leader, and the leader once it has its followers.
        self.servers[-1].await_that(self._listens)

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self._router), 1).close()
        return True

    def target(self, kind: Kind) -> Target:
        return {"port": self._router}

    def version(self) -> str:
        return f"Python {platform.python_version()}"
