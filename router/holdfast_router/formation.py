"""What a router is told before it starts: the formation file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from holdfast.wire.addresses import split_address
from holdfast.wire.hiding import shown
from holdfast.wire.messages import GroupRecord, NodeRecord


class FormationFile(msgspec.Struct):
    """What a router reads of ``formation.json``; everything else comes by watch from the meta group."""

    cluster: str
    secret: str
    nodes: tuple[NodeRecord, ...]
    groups: tuple[GroupRecord, ...]

    def __repr__(self) -> str:
        return shown(self, "secret")


class FormationUnreadable(Exception):
    """The file named by ``--formation`` cannot be used."""


def read_formation(path: Path) -> FormationFile:
    try:
        formation = msgspec.json.decode(path.read_bytes(), type=FormationFile)
        for node in formation.nodes:
            split_address(node.address)
    except OSError as error:
        raise FormationUnreadable(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FormationUnreadable(f"{path} is no formation file: {error}") from None
    if not formation.nodes:
        raise FormationUnreadable(f"{path} names no nodes")
    return formation
