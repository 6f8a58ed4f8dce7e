"""``holdfast certs``: certificates for trying TLS out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from .exits import Exit, Stop


class _Node(msgspec.Struct, array_like=True):
    node: int


class _Formation(msgspec.Struct):
    cluster: str
    nodes: tuple[_Node, ...]


def certs(
    formation: Annotated[Path, typer.Option(metavar="FILE", help="The cluster's formation.json.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets authority.pem, node-1.pem, ..., router.pem, ...")],
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Where clients reach a router; may be repeated.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long certificates are valid.")] = 365,
) -> int:
    """Make a development authority and certificates for the nodes, routers and clients of a cluster.

    Run it again to renew them: servers notice and take the new ones. The authority's key stays in DIR: move it to a
    safe place. docs/operations.md says what a certificate of another authority has to hold.
    """
    try:
        from holdfast.cluster.certificates import AuthorityUnusable, make_certificates  # noqa: PLC0415 - see the error
    except ImportError:
        raise Stop(Exit.CONFIG, "cryptography is not installed here: pip install 'holdfast[server]'") from None
    try:
        found = msgspec.json.decode(formation.read_bytes(), type=_Formation)
        made = make_certificates(out, found.cluster, [node.node for node in found.nodes], hosts=host or (), days=days)
    except (OSError, msgspec.DecodeError, AuthorityUnusable) as error:
        raise Stop(Exit.CONFIG, f"cannot make certificates: {error}") from None
    for path in made:
        print(path)
    return Exit.OK
