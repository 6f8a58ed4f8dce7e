"""``holdfast status``: every node, group and replica."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from holdfast.cluster import ClusterStatus, GroupStatus, NodeStatus, fetch_status

from . import credentials
from .exits import Exit

META_GROUP = 0
COLUMNS = (
    *("group", "node", "pid", "role", "leader", "term", "epoch", "commit", "applied"),
    *("slots", "held", "waiters", "digest"),
)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, for programs.")] = False,
) -> int:
    """Show every node, group, role, leader, term, epoch, log position, lock counts and state digest.

    A tenant's key shows who leads and what is up; the rest is the operator's to see (HOLDFAST_OPERATOR_KEY).

    Exit code 1 when a node does not answer, a group has no leader that serves, or replicas differ.
    """
    found = credentials.find(rules=True)
    cluster = fetch_status(credentials.address_of(found), found.operator_key or found.api_key)
    troubles = _troubles(cluster)
    if as_json:
        known = {**msgspec.to_builtins(cluster), "troubles": troubles}
        print(msgspec.json.format(msgspec.json.encode(known)).decode())
    else:
        _print(cluster)
        for trouble in troubles:
            print(f"holdfast: {trouble}", file=sys.stderr)
    return Exit.NO if troubles else Exit.OK


def _troubles(cluster: ClusterStatus) -> list[str]:
    down = [f"node {node.node}{_at(node)} does not answer" for node in cluster.nodes if not node.up]
    groups = {group.group for node in cluster.nodes for group in node.groups}
    headless = sorted(groups - cluster.leaders().keys())
    return [*down, *(f"group {group} has no leader that serves" for group in headless), *cluster.diverged()]


def _at(node: NodeStatus) -> str:
    return f" at {node.address}" if node.address else ""


def _print(cluster: ClusterStatus) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("role", "digest") else "right", no_wrap=True)
    rows = [(group, node) for node in cluster.nodes for group in node.groups]
    for group, node in sorted(rows, key=lambda row: (row[0].group, row[1].node)):
        table.add_row(*_row(group, node, whole=cluster.whole))
    # Piped output is for programs that read lines: never folded to the width of a terminal that is not there.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    pid = f" (pid {cluster.router.pid})" if cluster.whole else ""
    console.print(f"router {cluster.router.address}{pid}", highlight=False)
    console.print(table)


def _row(group: GroupStatus, node: NodeStatus, *, whole: bool) -> tuple[str, ...]:
    def told(value: object) -> str:
        return str(value) if whole else "-"

    role = group.role if group.role != "leader" or group.ready else "leader, not ready"
    return (
        "meta" if group.group == META_GROUP else str(group.group),
        str(node.node),
        told(node.pid),
        role,
        str(group.leader or "-"),
        str(group.term),
        told(group.epoch),
        told(group.commit),
        told(group.applied),
        told(group.slots),
        told(group.held),
        told(group.waiters),
        told(f"{group.digest[:8]}@{group.digest_index}"),
    )
