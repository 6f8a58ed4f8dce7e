"""A cluster on this machine, in one directory."""

from __future__ import annotations

import shutil
import signal
import ssl
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.address import Address
from holdfast.wire.errors import HoldfastError
from holdfast.wire.tls import CA_VARIABLE

from .forming import ClusterError, Known, Shape, cluster_of, formed, free_ports, opened
from .guardian_client import Guardian
from .server_process import ServerFailed, ServerProcess
from .status import ClusterStatus, fetch_status

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
ROUTER = "router"


class LocalCluster:
    """Nodes and a router as real processes. Every process dies with the one that made it, however that ends.

    ``data``: where the cluster lives; formed there on first use, restarted from disk later, kept at the end. Without it
    a temporary directory is used and removed. ``shape``: of a new cluster; of an old one it must be the same, or None.
    ``listen``: the router's HOST:PORT; port 0 takes a free one. ``tls``: on every listener and link, with certificates
    made in the directory ``tls`` of the cluster's (needs ``cryptography``). Not thread-safe.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        shape: Shape | None = None,
        listen: str = "127.0.0.1:0",
        tls: bool = False,
    ) -> None:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal() or not 0 <= int(port) < 65536:
            raise ClusterError(f"--listen takes HOST:PORT, not {listen!r}")
        self._shape = shape
        self._tls = tls
        self._kept = data is not None
        self.directory = data if data is not None else Path(tempfile.mkdtemp(prefix="holdfast-"))
        self._host, self._port = host, int(port)
        self._http = f"{host}:{self._port + 1 if self._port else 0}"
        self.grpc_address = f"{host}:{self._port + 2 if self._port else 0}"
        """Where the router serves gRPC, once it runs."""
        self._guardian: Guardian | None = None
        self._nodes: dict[int, ServerProcess] = {}
        self._router: ServerProcess | None = None
        self._known: Known | None = None

    # What others need to know.

    @property
    def url(self) -> str:
        return f"{'holdfasts' if self._tls else 'holdfast'}://{self._host}:{self._port}"

    @property
    def http_url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._http}"

    @property
    def address(self) -> tuple[str, int]:
        return self._host, self._port

    @property
    def api_key(self) -> str:
        return self._formed().api_key

    @property
    def operator_key(self) -> str:
        """Rules the cluster: makes tenants and keys, and takes no locks."""
        return self._formed().operator_key

    @property
    def shape(self) -> Shape:
        return self._formed().shape

    @property
    def formation(self) -> Path:
        return self.directory / self._formed().formation

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use this cluster."""
        trust = {CA_VARIABLE: str(self.authority)} if self._tls else {}
        fronts = {"HOLDFAST_URL": self.url, "HOLDFAST_HTTP_URL": self.http_url, "HOLDFAST_GRPC": self.grpc_address}
        keys = {"HOLDFAST_API_KEY": self.api_key, "HOLDFAST_OPERATOR_KEY": self.operator_key}
        return {**fronts, **keys, **trust}

    @property
    def authority(self) -> Path | None:
        """Who signed the certificates; None without TLS."""
        return self._certificates / "authority.pem" if self._tls else None

    @property
    def _certificates(self) -> Path:
        return self.directory.absolute() / "tls"

    @property
    def pids(self) -> dict[str, int]:
        """Of the processes that run now, by name (``node 1``, …, ``router``)."""
        return {process.name: process.pid for process in self._processes() if process.running()}

    @property
    def guardian(self) -> Guardian:
        """Ends with the cluster; other processes that must not outlive it can be added."""
        assert self._guardian is not None, "the cluster does not run"
        return self._guardian

    @property
    def nodes(self) -> dict[int, ServerProcess]:
        return self._nodes

    @property
    def router(self) -> ServerProcess:
        assert self._router is not None, "the cluster was never started"
        return self._router

    def status(self, timeout_s: float = 3.0) -> ClusterStatus:
        trust = ssl.create_default_context(cafile=self.authority) if self._tls else None
        address = Address(((self._host, self._port),), tls=self._tls)
        return fetch_status(address, self.operator_key, timeout_s=timeout_s, tls=trust)

    # Life.

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Form if need be, start everything and wait until every group serves and every node is known to the router.

        Raises :class:`ClusterError`.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._known = opened(self.directory, self._shape) or self._form()
            if self._tls:
                self._certify()
            self._guardian = Guardian()
            (self.directory / "logs").mkdir(mode=0o700, exist_ok=True)
            self._nodes = {number: self._node(number) for number in range(1, self.shape.nodes + 1)}
            for process in self._nodes.values():
                process.start()
            self._start_router(deadline)
            for process in self._nodes.values():
                process.await_listening(deadline)
            self.ready(deadline - time.monotonic(), all_nodes=True)
        except ServerFailed as error:
            self.stop()
            raise ClusterError(str(error), port_taken=error.code == 5) from None
        except BaseException:
            self.stop()
            raise

    def ready(self, timeout_s: float = START_TIMEOUT_S, *, all_nodes: bool = False) -> None:
        """Wait until every group has a leader that serves, as the router sees it. Raises :class:`ClusterError`.

        ``all_nodes``: and until every node answers the router.
        """
        deadline = time.monotonic() + timeout_s
        missing = "the router does not answer"
        while (left := deadline - time.monotonic()) > 0:
            try:
                missing = self._missing(self.status(min(left, 2.0)), all_nodes)
            except HoldfastError as error:
                missing = str(error)
            if not missing:
                return
            time.sleep(0.02)
        tails = "".join(f"\n{p.name}:{p.log_tail()}" for p in self._processes())
        raise ClusterError(f"not ready after {timeout_s:.0f} s: {missing}{tails}")

    def _missing(self, status: ClusterStatus, all_nodes: bool) -> str:
        groups = set(range(self.shape.groups + 1)) - status.leaders().keys()
        if groups:
            return f"groups {sorted(groups)} have no leader"
        silent = [node.node for node in status.nodes if not node.up]
        return f"nodes {silent} do not answer" if silent and all_nodes else ""

    def stop(self) -> None:
        """Stop everything: politely, then for certain. Removes a temporary directory. May be called twice."""
        processes = list(self._processes())
        for process in processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in processes:
            process.wait(deadline)
            process.kill()
        if self._guardian is not None:
            self._guardian.close()
            self._guardian = None
        if not self._kept:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # Harm.

    def kill(self, node: int, number: int = signal.SIGKILL) -> None:
        """Signal a node. After SIGKILL it is gone when this returns."""
        process = self._nodes[node]
        if number == signal.SIGKILL:
            process.kill()
        else:
            process.signal(number)

    def restart(self, node: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start a node that has ended; returns when it listens."""
        self._again(self._nodes[node], timeout_s)

    def restart_router(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the router again, at the same address."""
        self._again(self.router, timeout_s)

    def _again(self, process: ServerProcess, timeout_s: float) -> None:
        process.kill()
        process.start()
        try:
            process.await_listening(time.monotonic() + timeout_s)
        except ServerFailed as error:
            raise ClusterError(str(error), port_taken=error.code == 5) from None

    # Pieces.

    def node_addresses(self, count: int) -> list[str]:
        """Where the nodes of a new cluster will listen. May be overridden, to put nodes elsewhere on this machine."""
        return [f"127.0.0.1:{port}" for port in free_ports(count)]

    def node_prefix(self, number: int) -> list[str]:
        """What goes before a node's command line; must become the node (exec). May be overridden."""
        return []

    def node_arguments(self, number: int) -> list[str]:
        """What goes behind a node's command line. May be overridden."""
        return []

    def router_arguments(self) -> list[str]:
        """What goes on a router's command line besides. May be overridden."""
        return []

    def _formed(self) -> Known:
        assert self._known is not None, "the cluster was never started"
        return self._known

    def _form(self) -> Known:
        shape = self._shape or Shape()
        return formed(self.directory, shape, self.node_addresses(shape.nodes))

    def _processes(self) -> list[ServerProcess]:
        return [*([self._router] if self._router is not None else []), *self._nodes.values()]

    def _node(self, number: int) -> ServerProcess:
        data = self.directory / f"node-{number}"
        arguments = ["holdfast_shard", "node", "--data", str(data), *self._tls_of(f"node-{number}")]
        arguments += self.node_arguments(number)
        name, prefix = f"node {number}", self.node_prefix(number)
        return ServerProcess(name, arguments, self._log(f"node-{number}"), self.guardian, prefix)

    def _start_router(self, deadline: float) -> None:
        arguments = ["holdfast_router", "--formation", str(self.formation), *self._tls_of("router")]
        fronts = ["--http", self._http, "--grpc", self.grpc_address]
        arguments += [*self.router_arguments(), *fronts, "--listen", f"{self._host}:{self._port}"]
        self._router = ServerProcess(ROUTER, arguments, self._log(ROUTER), self.guardian)
        self._router.start()
        said = self._router.await_listening(deadline)
        # So that a router started again listens where its clients look for it.
        self._port = int(str(said["address"]).rpartition(":")[2])
        self._http, self.grpc_address = str(said["http"]), str(said["grpc"])
        self._router.arguments[-5::2] = [self._http, self.grpc_address, f"{self._host}:{self._port}"]

    def _tls_of(self, name: str) -> list[str]:
        if not self._tls:
            return []
        files = {"--tls-cert": f"{name}.pem", "--tls-key": f"{name}-key.pem", "--tls-ca": "authority.pem"}
        return [word for option, file in files.items() for word in (option, str(self._certificates / file))]

    def _certify(self) -> None:
        try:
            from .certificates import AuthorityUnusable, make_certificates  # noqa: PLC0415 - see the error
        except ImportError:
            raise ClusterError("TLS needs cryptography: pip install 'holdfast[server]'") from None
        try:
            cluster = cluster_of(self.formation)
            make_certificates(self._certificates, cluster, range(1, self.shape.nodes + 1), hosts=[self._host])
        except (OSError, AuthorityUnusable) as error:
            raise ClusterError(f"cannot make certificates: {error}") from None

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"
