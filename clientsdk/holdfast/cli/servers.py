"""``holdfast node`` and ``holdfast router``: the servers, for deployments made by hand.

The command becomes the server (exec), so that its process id, signals and exit code are the server's own; they are
listed in ``docs/cli.md``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .exits import Exit, Stop

node = typer.Typer(no_args_is_help=True, help="Form a cluster, run a node, replace a lost disk.")


@node.command()
def form(
    nodes: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Where each node will listen.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets node-1, node-2, ... and formation.json.")],
    groups: Annotated[int, typer.Option(help="Lock groups.")] = 2,
    replicas: Annotated[int, typer.Option(help="Replicas of each group: 1, 3 or 5.")] = 3,
) -> None:
    """Form a cluster, once: write cluster id, members and identities into one directory per node.

    Prints the cluster's id, the API key of its tenant "default" and the operator's key, which are kept nowhere else.
    """
    _become(
        "holdfast_shard",
        *("form", "--nodes", nodes, "--groups", str(groups), "--replicas", str(replicas), "--out", str(out)),
    )


@node.command()
def run(
    data: Annotated[Path, typer.Option(metavar="DIR", help="The node's data directory, as formed.")],
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="When it is not the formation's address.")
    ] = None,
    advertise: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where others find it, when that is not where it listens.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain of this node, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    tls_ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Authority of all nodes and routers.")] = None,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Listen without TLS where other machines can connect.")
    ] = False,
) -> None:
    """Run a node until TERM or INT."""
    where = [*_option("--listen", listen), *_option("--advertise", advertise)]
    tls = [*_option("--tls-cert", tls_cert), *_option("--tls-key", tls_key), *_option("--tls-ca", tls_ca)]
    _become("holdfast_shard", "node", "--data", str(data), *where, *tls, *(["--plaintext"] if plaintext else []))


@node.command()
def replace(
    survivors: Annotated[list[Path], typer.Argument(metavar="DIR ...", help="Of every surviving node.")],
    node: Annotated[int, typer.Option(help="The node whose disk is lost.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new, empty data directory.")],
) -> None:
    """Give a node a new disk while all nodes are stopped (docs/operations.md)."""
    _become("holdfast_shard", "replace", "--node", str(node), "--data", *map(str, survivors), "--out", str(out))


def router(
    formation: Annotated[Path, typer.Option(metavar="FILE", help="The cluster's formation.json.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where SDKs connect.")] = "127.0.0.1:8420",
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="For HTTP; by default the port after that of --listen.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Of pages that may use HTTP; repeatable.")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="For gRPC; by default two after the port of --listen.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    meta_silence: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Admit nothing new when the meta group was not heard for so long; 10."),
    ] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="SDKs have to show a certificate of this authority.")
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Authority of the nodes: links to them use TLS.")
    ] = None,
    tls_peer_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="To show to nodes, when it is not --tls-cert.")
    ] = None,
    tls_peer_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="No TLS where other machines are concerned.")] = False,
) -> None:
    """Run a router until TERM or INT. Run as many as needed; they share nothing."""
    files = {
        "--tls-cert": tls_cert, "--tls-key": tls_key, "--tls-client-ca": tls_client_ca, "--tls-ca": tls_ca,
        "--tls-peer-cert": tls_peer_cert, "--tls-peer-key": tls_peer_key,
    }  # fmt: skip
    tls = [word for name, file in files.items() for word in _option(name, file)]
    tls += ["--plaintext"] if plaintext else []
    _become(
        "holdfast_router",
        "--formation",
        str(formation),
        "--listen",
        listen,
        *_option("--http", http),
        *[word for origin in cors_origin or () for word in ("--cors-origin", origin)],
        *_option("--grpc", grpc),
        *tls,
        *_option("--meta-silence", meta_silence),
    )


def _option(name: str, value: object | None) -> list[str]:
    return [] if value is None else [name, str(value)]


def _become(package: str, *arguments: str) -> NoReturn:
    if importlib.util.find_spec(package) is None:
        raise Stop(Exit.CONFIG, f"{package} is not installed here: pip install 'holdfast[server]'")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", package, *arguments])  # noqa: S606 - no shell is meant
