"""What a router says of itself and of every node."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

import msgspec

from holdfast.address import Address
from holdfast.wire.errors import BadMessage, Unavailable
from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role, decode_refusal
from holdfast.wire.stream import Splitter, pack
from holdfast.wire.tls import client_context


class GroupStatus(msgspec.Struct):
    """One replica of a group. ``leader`` is a node, 0 when unknown; ``ready`` is true on a leader that serves. A tenant
    is told the first five."""

    group: int
    role: str
    leader: int
    term: int
    ready: bool
    epoch: int = 0
    commit: int = 0
    applied: int = 0
    last: int = 0
    digest: str = ""
    digest_index: int = 0
    slots: int = 0
    held: int = 0
    waiters: int = 0
    sessions: int = 0
    clients: int = 0


class NodeStatus(msgspec.Struct):
    """``pid`` 0 and no groups when the node did not answer in time (``up`` false). ``dropped`` counts messages of other
    nodes that were bad, stale or repeated, ``received`` all messages of the stream on the connections that are open,
    ``syncs`` the times that the journal was synced since the node's start,
    ``compiled`` is whether it runs the machine's extensions. A tenant is told ``node`` and ``up``."""

    node: int
    up: bool
    address: str = ""
    pid: int = 0
    dropped: int = 0
    received: int = 0
    syncs: int = 0
    compiled: bool = False
    groups: list[GroupStatus] = []


class RouterStatus(msgspec.Struct):
    """``received``: messages of the stream on the connections that are open, not what comes by HTTP or gRPC."""

    address: str
    pid: int = 0
    received: int = 0


class ClusterStatus(msgspec.Struct):
    """``whole``: as the operator sees it; a tenant is told less, and what it is not told is 0 or empty."""

    router: RouterStatus
    nodes: list[NodeStatus]
    whole: bool = False

    def leaders(self) -> dict[int, int]:
        """Group -> the node that leads it and serves; of two that say so, the one of the higher term."""
        found: dict[int, tuple[int, int]] = {}
        for node in self.nodes:
            for group in node.groups:
                if group.role == "leader" and group.ready:
                    found[group.group] = max(found.get(group.group, (0, 0)), (group.term, node.node))
        return {group: node for group, (_, node) in found.items()}

    def diverged(self) -> list[str]:
        """Groups whose replicas had different digests at the same index; empty as long as all is well."""
        seen: dict[tuple[int, int], tuple[int, str]] = {}
        found = []
        for node in self.nodes:
            for group in node.groups:
                at = (group.group, group.digest_index)
                other, digest = seen.setdefault(at, (node.node, group.digest))
                if digest != group.digest:
                    found.append(f"group {at[0]}: nodes {other} and {node.node} differ at index {at[1]}")
        return found


_decode = msgspec.msgpack.Decoder(ClusterStatus).decode


def fetch_status(
    address: Address, api_key: str, *, timeout_s: float = 3.0, tls: ssl.SSLContext | None = None
) -> ClusterStatus:
    """Ask the first router that can be reached. Raises the router's refusal, or :class:`Unavailable`."""
    trouble: Unavailable | None = None
    for host, port in address.hosts:
        try:
            return _fetch(host, port, api_key, timeout_s, (tls or client_context()) if address.tls else None)
        except Unavailable as error:
            trouble = error
    assert trouble is not None, "an address has at least one host"
    raise trouble


def _fetch(host: str, port: int, api_key: str, timeout_s: float, tls: ssl.SSLContext | None) -> ClusterStatus:
    """Raises the router's refusal, or :class:`Unavailable` when it cannot be reached in time."""
    deadline = time.monotonic() + timeout_s
    try:
        with contextlib.ExitStack() as stack:
            stream: socket.socket = stack.enter_context(socket.create_connection((host, port), timeout_s))
            if tls is not None:
                stream = stack.enter_context(tls.wrap_socket(stream, server_hostname=host))
            hello = encode(Hello(PROTOCOL_VERSION, Role.CLIENT, api_key))
            stream.sendall(pack(Msg.HELLO, 0, 0, hello) + pack(Msg.STATUS, 0, 1, b""))
            return _answer(stream, deadline)
    except OSError as error:
        raise Unavailable(f"no router answers at {host}:{port}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadMessage(f"the router at {host}:{port} sent a status that is none: {error}") from None


def _answer(stream: socket.socket, deadline: float) -> ClusterStatus:
    splitter = Splitter()
    while (left := deadline - time.monotonic()) > 0:
        stream.settimeout(left)
        data = stream.recv(1 << 16)
        if not data:
            raise ConnectionError("it closed the connection")
        for kind, _, _, body in splitter.feed(data):
            if kind == Msg.REFUSED and body is not None:
                raise decode_refusal(body).error()
            if kind == Msg.STATUS and body is not None:
                return _decode(body)
    raise TimeoutError("no answer in time")
