"""``python -m holdfast_shard``: form a cluster, run a node, replace a lost disk."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import socket
import sys
import time
from pathlib import Path

import uvloop

from holdfast.wire.addresses import check_plaintext, split_address
from holdfast.wire.collecting import settle_collector
from holdfast.wire.tls import Certificates, TlsFiles, TlsUnusable

from . import compiled

compiled.prefer()  # before anything imports what may be compiled
# ruff: noqa: E402
from .consensus import LogDamaged
from .consensus.disk import DirectoryInUse, DiskError, DiskFull
from .consensus.journal import JournalDamaged, JournalFailed
from .consensus.snapshots import SnapshotDamaged
from .formation import (
    FORMATION_FILE,
    FormationError,
    new_formation,
    open_directory,
    replace_node,
    write_directory,
    write_formation,
)
from .logs import configure_logs
from .node.process import Node, listening_line
from .node.surroundings import Surroundings

EXIT_USAGE, EXIT_DATA, EXIT_DISK, EXIT_PORT = 2, 3, 4, 5


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast_shard", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    form = commands.add_parser("form", help="write the data directories of a new cluster")
    form.add_argument("--nodes", type=_nodes, required=True, metavar="HOST:PORT,…", help="where each node will listen")
    form.add_argument("--groups", type=int, default=2)
    form.add_argument("--replicas", type=int, default=3)
    form.add_argument("--out", type=Path, required=True, help="gets node-1, node-2, … and formation.json")
    node = commands.add_parser("node", help="run a node")
    node.add_argument("--data", type=Path, required=True)
    node.add_argument("--listen", type=_listen, metavar="HOST:PORT", help="when it is not the formation's address")
    node.add_argument("--advertise", type=_reachable, metavar="HOST:PORT", help="where others find it, when elsewhere")
    node.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM; with --tls-key, --tls-ca")
    node.add_argument("--tls-key", type=Path, metavar="FILE")
    node.add_argument("--tls-ca", type=Path, metavar="FILE", help="authority of this cluster's nodes and routers")
    node.add_argument("--plaintext", action="store_true", help="listen without TLS where other machines can connect")
    replace = commands.add_parser("replace", help="give a lost node a new, empty disk; all nodes stopped")
    replace.add_argument("--node", type=int, required=True)
    replace.add_argument("--data", type=Path, nargs="+", required=True, help="directories of all surviving nodes")
    replace.add_argument("--out", type=Path, required=True)
    return parser


def _listen(text: str) -> str:
    return _address(text, port_min=0)


def _reachable(text: str) -> str:
    address = _address(text, port_min=1)
    if _is_wildcard(address):
        raise argparse.ArgumentTypeError(
            f"nobody can connect to {text}: name the address at which others reach the node"
        )
    return address


def _nodes(text: str) -> list[str]:
    return [_reachable(address.strip()) for address in text.split(",")]


def _address(text: str, port_min: int) -> str:
    try:
        host, port = split_address(text, port_min=port_min)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return f"{host}:{port}"


def _is_wildcard(address: str) -> bool:
    host, _ = split_address(address, port_min=0)
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    with contextlib.suppress(OSError):
        return socket.inet_aton(host) == bytes(4)  # "0" and the like
    return False


def _form(options: argparse.Namespace) -> None:
    formation, key, operator_key = new_formation(
        options.nodes, options.groups, options.replicas, int(time.time() * 1000)
    )
    for record in formation.nodes:
        write_directory(formation, record.node, options.out / f"node-{record.node}")
    write_formation(formation, options.out / FORMATION_FILE)
    print(
        json.dumps(
            {
                "cluster": formation.cluster,
                "api_key": key,
                "operator_key": operator_key,
                "formation": str(options.out / FORMATION_FILE),
            }
        ),
        flush=True,
    )


async def _run(options: argparse.Namespace) -> None:
    tls = _certificates(options)
    node = Node(Surroundings(open_directory(options.data)), options.listen, options.advertise, tls=tls)
    try:
        await node.run()
        if tls is None:
            _check_plaintext(node.listening, allowed=options.plaintext)
    except _Usage:
        await node.close()
        raise
    except (socket.gaierror, UnicodeError) as error:
        await node.close()
        raise _Usage(f"cannot listen on {node.listening}: {error}; give an address of this machine") from None
    except OSError as error:
        await node.close()
        raise _PortTaken(f"cannot listen on {node.listening}: {error.strerror or error}") from None
    settle_collector()
    node.heed_signals()
    print(json.dumps(listening_line(node)), flush=True)
    await node.serve()


def _all_or_none(*values: Path | None) -> bool:
    return len({value is None for value in values}) == 1


def _certificates(options: argparse.Namespace) -> Certificates | None:
    if options.tls_cert is None:
        return None
    try:
        return Certificates(TlsFiles(options.tls_cert, options.tls_key, options.tls_ca))
    except TlsUnusable as error:
        raise _Usage(str(error)) from None


def _check_plaintext(address: str, *, allowed: bool) -> None:
    try:
        check_plaintext(address, allowed=allowed)
    except ValueError as error:
        raise _Usage(str(error)) from None


class _Usage(Exception):
    """The arguments do not go together with what is here."""


class _PortTaken(Exception):
    pass


def main() -> int:
    parser = _arguments()
    options = parser.parse_args()
    if options.command == "node" and options.listen and not options.advertise and _is_wildcard(options.listen):
        parser.error(f"--listen {options.listen} is no address for others to connect to: add --advertise HOST:PORT")
    if options.command == "node" and not _all_or_none(options.tls_cert, options.tls_key, options.tls_ca):
        parser.error("--tls-cert, --tls-key and --tls-ca go together")
    try:
        if options.command == "form":
            _form(options)
        elif options.command == "replace":
            identity = replace_node(options.node, options.data, options.out)
            print(json.dumps({"node": options.node, "identity": identity, "data": str(options.out)}), flush=True)
        else:
            configure_logs()
            uvloop.run(_run(options))
    except _Usage as error:
        return _fail(EXIT_USAGE, error)
    except _PortTaken as error:
        return _fail(EXIT_PORT, error)
    except FormationError as error:
        return _fail(EXIT_USAGE if options.command == "form" else EXIT_DATA, error)
    except (JournalDamaged, SnapshotDamaged, LogDamaged, DirectoryInUse) as error:
        return _fail(EXIT_DATA, error)
    except (DiskFull, DiskError, JournalFailed) as error:
        return _fail(EXIT_DISK, error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


def _fail(code: int, error: Exception) -> int:
    print(f"holdfast node: {error}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
