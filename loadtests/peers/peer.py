"""What a lock service has to offer to be compared: servers of its own, and clients of one or more kinds."""

from __future__ import annotations

import enum
import importlib.util
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from holdfast.cluster import Guardian

from .servers import Fault, PeerFailed, Server

Target = Mapping[str, Any]
"""What a client needs to know to reach a peer; becomes JSON."""


class Shape(enum.StrEnum):
    TASKS = "tasks"
    """`connect(target, workers)` is awaited and gives a client whose `acquire` and `release` are awaited."""
    THREADS = "threads"
    """The same, with calls that block; each worker is a thread."""
    PROGRAM = "program"
    """`rawload.c`, compiled by the harness; ``module`` is its protocol."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to use a peer from a client. ``module``: of `loadtests.peers.clients`.

    ``needs``: the Python modules that must be there, all in the extra ``load``. ``clients_max``: how many clients
    (connections, sessions) the workers of a process share; a worker has one of its own when this is large.
    ``workers_max``: beyond this the peer does not bear it. ``waits``: acquire waits for its turn, so that a hand-off
    can be measured; other kinds are refused.
    """

    name: str
    module: str
    needs: tuple[str, ...] = ()
    shape: Shape = Shape.TASKS
    clients_max: int = 1
    workers_max: int = 1024
    waits: bool = True
    library: str = ""
    """Whose version is written beside the figures."""

    def missing(self) -> str:
        """Empty, or one line that says what to install."""
        if self.shape is Shape.PROGRAM:
            return "" if shutil.which("cc") else "a C compiler is missing: apt install gcc libc6-dev"
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} missing: pip install -c constraints.txt -e '.[load]'" if absent else ""


class Peer(ABC):
    """The servers of one service, on free ports of 127.0.0.1, in a directory of their own that ends with them."""

    name: ClassVar[str]
    title: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]]
    needs: ClassVar[Mapping[str, str]] = {}
    """Program or file -> the Debian package that has it."""
    warm_up_s: ClassVar[float] = 1.0
    """Under load after each start, before anything counts; of each kind of client an equal part."""
    fails_over: ClassVar[Kind | None] = None
    """How clients cycle while leaders are killed or stopped; None where there is no leader to lose."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"holdfast-compare-{self.name}-"))
        self.guardian = Guardian()
        self.servers: list[Server] = []

    @classmethod
    def missing(cls) -> str:
        """Empty, or one line that names the Debian packages to install."""
        absent = sorted({package for program, package in cls.needs.items() if not _found(program)})
        return f"servers missing: apt install {' '.join(absent)}" if absent else ""

    @abstractmethod
    def start(self) -> None:
        """Returns when it serves. Raises :class:`PeerFailed`."""

    @abstractmethod
    def target(self, kind: Kind) -> Target:
        """Where clients of that kind find it now, in the way that is best for the peer."""

    @abstractmethod
    def version(self) -> str:
        """Of its servers, as they say it."""

    def pids(self) -> list[int]:
        """Of the servers that run; what they started besides belongs to them."""
        return [server.pid for server in self.servers if server.running()]

    def hurt_leader(self, number: int, fault: Fault) -> None:
        """``number`` counts the fail-overs, for services that have more than one leader."""
        raise NotImplementedError(f"{self.name} has no leader")

    def restore(self) -> None:
        """Start what was killed, continue what was stopped; returns when all serve. Raises :class:`PeerFailed`."""
        for server in self.servers:
            if server.running():
                server.resume()
            else:
                server.start()
        self.await_serving()

    @abstractmethod
    def await_serving(self) -> None:
        """Returns when every server serves. Raises :class:`PeerFailed`."""

    def stop(self) -> None:
        """Leaves no process and no file."""
        for server in self.servers:
            server.stop()
        self.guardian.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Peer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _found(program: str) -> bool:
    return shutil.which(program) is not None or Path(program).exists()


__all__ = ["Fault", "Kind", "Peer", "PeerFailed", "Shape", "Target"]
