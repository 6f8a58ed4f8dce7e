"""``holdfast up``: the service on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from holdfast.cluster import ClusterError, LocalCluster, Shape
from holdfast.wire.tls import CA_VARIABLE

from .credentials import Credentials, announce
from .exits import Exit, Stop
from .foreground import Foreground, handle

LOOK_S = 0.5
GRACE_S = 5.0
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def up(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CMD ...]", help="Run CMD against it, then stop everything.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes; 3 when a cluster is formed.")] = None,
    groups: Annotated[int | None, typer.Option(help="Lock groups; 2 when a cluster is formed.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas of each group: 1, 3 or 5.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the data here; without it, a temporary directory.")
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the router listens.")] = "127.0.0.1:8420",
    tls: Annotated[
        bool, typer.Option("--tls", help="Use TLS everywhere, with certificates of an authority made here.")
    ] = False,
) -> int:
    """Run the service on this machine: nodes, groups and a router, as processes of their own.

    Without CMD it runs until Ctrl-C. With CMD it ends when CMD ends, with CMD's exit code; CMD finds HOLDFAST_URL,
    HOLDFAST_HTTP_URL, HOLDFAST_GRPC, HOLDFAST_API_KEY and HOLDFAST_OPERATOR_KEY in its environment, and with --tls
    HOLDFAST_CA.
    """
    shape = _shape(nodes, groups, replicas)
    try:
        with _interruptible(), _cluster(data, shape, listen, tls=tls) as cluster, _announced(cluster):
            if command:
                return asyncio.run(_run(cluster, command))
            return asyncio.run(_serve(cluster, data))
    except ClusterError as error:
        raise Stop(Exit.UNAVAILABLE if error.port_taken else Exit.CONFIG, str(error)) from None


def _shape(nodes: int | None, groups: int | None, replicas: int | None) -> Shape | None:
    if nodes is None and groups is None and replicas is None:
        return None
    count = 3 if nodes is None else nodes
    if count < 1:
        raise typer.BadParameter("a cluster has at least one node")
    return Shape(count, 2 if groups is None else groups, replicas or (3 if count >= 3 else 1))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """While starting, TERM and HUP unwind like Ctrl-C does."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise Stop(128 + number, f"stopped by {signal.Signals(number).name}")

    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, unwind)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _cluster(data: Path | None, shape: Shape | None, listen: str, *, tls: bool) -> Iterator[LocalCluster]:
    cluster = LocalCluster(data, shape=shape, listen=listen, tls=tls)
    try:
        cluster.start()
        yield cluster
    finally:
        # Stopping takes a few seconds at most; cut short, it would leave the temporary directory behind.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        cluster.stop()


@contextlib.contextmanager
def _announced(cluster: LocalCluster) -> Iterator[None]:
    host, port = cluster.address
    path: Path | None = None
    try:
        found = Credentials(
            cluster.url, cluster.api_key, os.getpid(), cluster.operator_key, str(cluster.authority or "")
        )
        path = announce(found, f"{host}:{port}")
    except OSError as error:
        # Only a convenience: whoever has no home directory sets the two variables.
        _note(f"other terminals will need HOLDFAST_URL and HOLDFAST_API_KEY: {error}")
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


async def _run(cluster: LocalCluster, command: list[str]) -> int:
    return await Foreground(command, cluster.environment, cluster.guardian, grace_s=GRACE_S).run()


async def _serve(cluster: LocalCluster, kept: Path | None) -> int:
    """Until told to stop, or until there is nothing left to serve with. Says when a process has ended."""
    stopping = asyncio.Event()
    handle(asyncio.get_running_loop(), STOPPING, lambda number: stopping.set())
    # Said last: from here on being told to stop is the ordinary end.
    _say(cluster, kept)
    running = cluster.pids
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_S)
        now = cluster.pids
        for name in running.keys() - now.keys():
            _note(f"{name} (pid {running[name]}) has ended; logs are in {cluster.directory / 'logs'}")
        running = now
        if "router" not in running or len(running) == 1:
            raise Stop(Exit.UNAVAILABLE, "the router or every node has ended")
    return Exit.OK


def _say(cluster: LocalCluster, kept: Path | None) -> None:
    shape, me = cluster.shape, _program()
    print(
        f"Holdfast is up: {shape.nodes} nodes, {shape.groups} lock groups of {shape.replicas} replicas, router on "
        f"{cluster.address[0]}:{cluster.address[1]}.\n\n"
        f"In another terminal:\n"
        f"  {me} lock deploy -- sh -c 'echo $HOLDFAST_LOCK_TOKEN'\n"
        f"  {me} status\n\n"
        f"From a program:\n"
        f"  export HOLDFAST_URL={cluster.url}\n"
        f"  export HOLDFAST_HTTP_URL={cluster.http_url}  # HTTP and JSON; its pages are at /docs\n"
        f"  export HOLDFAST_GRPC={cluster.grpc_address}  # gRPC, package holdfast.v1 (docs/grpc.md)\n"
        f"  export HOLDFAST_API_KEY={cluster.api_key}\n"
        + (f"  export {CA_VARIABLE}={shlex.quote(str(cluster.authority))}\n" if cluster.authority else "")
        + "\n"
        + (f"Ctrl-C stops it; its data stays in {kept}." if kept else "Ctrl-C stops it and removes its data."),
        flush=True,
    )


def _program() -> str:
    """How the user got here, so that what is printed can be pasted."""
    found = shutil.which("holdfast")
    mine = Path(sys.argv[0])
    if found is not None and mine.exists() and Path(found).samefile(mine):
        return "holdfast"
    return shlex.quote(sys.argv[0])


def _note(text: str) -> None:
    # The terminal may be gone; stopping in order matters more than saying so.
    with contextlib.suppress(OSError):
        print(f"holdfast: {text}", file=sys.stderr, flush=True)
