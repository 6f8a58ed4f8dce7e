"""One scenario per defect of the library, and how to disable what closes it.

A scenario returns when the promise is kept and raises AssertionError when it is broken. A mutant disables one named
method of ours; its scenario must then fail, or it would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast_shard.consensus.messages import (
    Append,
    decode,
)
from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node

GROUP = 1
INFINITE = float("inf")


@dataclass(frozen=True)
class Row:
    """`disable` patches what `scenario` is about; None where the defect has no counterpart that could be disabled."""

    name: str
    scenario: Callable[[], None]
    disable: Callable[[pytest.MonkeyPatch], None] | None


ROWS: list[Row] = []


def row(name: str, disable: Callable[[pytest.MonkeyPatch], None] | None) -> Callable[[Callable[[], None]], None]:
    def add(scenario: Callable[[], None]) -> None:
        ROWS.append(Row(name, scenario, disable))

    return add


def patch(owner: Any, name: str, replacement: Any) -> Callable[[pytest.MonkeyPatch], None]:
    assert hasattr(owner, name), name

    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, replacement)

    return apply


def replica(node: Node) -> Replica:
    return node.host.replicas[GROUP]


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes.values() if other is not node]


def of_kind(message: bytes, kind: type) -> list[Any]:
    return [part for part in decode(message).messages if type(part) is kind]


def without(kinds: tuple[type, ...], target: int) -> Callable[[int, int, bytes], bool]:
    """A network that loses bundles with such messages to `target`."""
    return lambda source, to, message: to != target or not any(type(part) in kinds for part in decode(message).messages)


def resent(leader: Node, after: int, upto: int) -> Append:
    """What the leader would send anew of its entries after index `after` up to index `upto`."""
    log = replica(leader).log
    entries = [(log.entry(index)[2], log.entry(index)[0]) for index in range(after + 1, upto + 1)]
    return Append(GROUP, replica(leader).term, after, log.entry(after)[2], replica(leader).commit_index, entries)
