"""The directory of a local cluster: formed on first use, and what is known of it from then on."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from holdfast.wire.hiding import shown

PORTS = range(20_000, 32_000)
"""Below the range from which systems take ports for outgoing connections, so that a stopped node's stays free."""

FORM_TIMEOUT_S = 30.0
_KNOWN = "local.json"


class ClusterError(Exception):
    """The local cluster cannot be had; the message says why and what to do. ``port_taken``: another listens there."""

    def __init__(self, message: str, *, port_taken: bool = False) -> None:
        super().__init__(message)
        self.port_taken = port_taken


class Shape(msgspec.Struct, frozen=True):
    """How many nodes, lock groups, and replicas of each lock group."""

    nodes: int = 3
    groups: int = 2
    replicas: int = 3


class Known(msgspec.Struct):
    """``local.json`` of the directory: what only the one who formed the cluster knows."""

    api_key: str
    operator_key: str
    shape: Shape
    formation: str = "formation.json"

    def __repr__(self) -> str:
        return shown(self, "api_key", "operator_key")


class _Formed(msgspec.Struct):
    cluster: str


def cluster_of(formation: Path) -> str:
    """The id of the cluster that was formed there. Raises ``OSError``."""
    return msgspec.json.decode(formation.read_bytes(), type=_Formed).cluster


def opened(directory: Path, shape: Shape | None) -> Known | None:
    """The cluster that the directory holds, None when it holds none. ``shape``: what it is to be, None for any.

    Raises :class:`ClusterError`.
    """
    path = directory / _KNOWN
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Known)
    except FileNotFoundError:
        if (directory / "formation.json").exists():
            raise ClusterError(
                f"{directory} holds a cluster, but not one that 'holdfast up' made ({path.name} is missing): "
                "run its processes with 'holdfast node' and 'holdfast router'; or, if 'holdfast up' was cut short "
                "while it formed the cluster, empty the directory"
            ) from None
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ClusterError(f"cannot read {path}: {error}") from None
    if shape is not None and shape != known.shape:
        raise ClusterError(
            f"{directory} holds a cluster of {_say(known.shape)}, not of {_say(shape)}; "
            "leave the numbers out, or choose another directory"
        )
    return known


def formed(directory: Path, shape: Shape, addresses: Sequence[str]) -> Known:
    """A new cluster there, whose nodes will listen at these addresses. Raises :class:`ClusterError`."""
    command = [sys.executable, "-m", "holdfast_shard", "form", "--nodes", ",".join(addresses)]
    command += ["--groups", str(shape.groups), "--replicas", str(shape.replicas), "--out", str(directory)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=FORM_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise ClusterError(done.stderr.strip() or f"forming the cluster ended with code {done.returncode}")
    said = json.loads(done.stdout)
    known = Known(said["api_key"], said["operator_key"], shape)
    part = directory / f"{_KNOWN}.part"
    with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(msgspec.json.encode(known))
        file.flush()
        os.fsync(file.fileno())
    part.replace(directory / _KNOWN)
    return known


def _say(shape: Shape) -> str:
    return f"{shape.nodes} nodes, {shape.groups} groups, {shape.replicas} replicas"


def free_ports(count: int) -> list[int]:
    """Where nobody listens on this machine. Raises :class:`ClusterError`."""
    found: list[int] = []
    choices = random.SystemRandom().sample(PORTS, len(PORTS))
    for port in choices:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"fewer than {count} of the ports {PORTS.start} to {PORTS.stop} are free")
